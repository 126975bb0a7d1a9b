"""Mutated tables of protocols: planned with, or refused by a UsageError."""

from pathlib import Path

from dassl.utils import UsageError
from scripts.runner.job import Request, Workspace
from scripts.runner.plan import plan, protocols_of
from tests.fuzz.harness import fuzz
from tests.scripts.fake_project import make_project

SEED = b"""
every_method:
  zeroshot: {trainer: ZeroshotCLIP, config_folder: CoOp, config: vit_b16}
cross_datasets:
  imagenet: [dtd]
domains:
  critters: [critters]
synthetic_datasets: {pattern: "critters*", config: critters}
methods:
  coop:
    trainer: CoOp
    config_node: COOP
    base2new: &base2new
      config: vit_b16_ctxv1
      shots: 16
      epoch: last
      save_every: 10
      except:
        - {for: {dataset: imagenet}, config: vit_b16_ep50_ctxv1}
    xd: *base2new
    fewshot:
      config: vit_b16
      shots: [1, 4]
      options: {TRAINER.COOP.N_CTX: 16, TRAINER.COOP.CSC: false}
      folder_suffix: nctx{N_CTX}_csc{CSC}
      suffix_defaults: {CTX_INIT: "", N_CTX: 16, CSC: false}
      except:
        - {for: {shots: [2, 4]}, config: vit_b16_ep100, epoch: 7}
    teacher: {<<: *base2new, shots: 4}
  student:
    trainer: PromptKD
    base2new: {config: vit_b16_ctxv1, config_folder: CoOp, shots: 0, teacher: coop teacher}
"""


def test_protocols(tmp_path: Path) -> None:
    workspace = make_project(tmp_path)

    def read(path: Path) -> None:
        """Plan every protocol of every method with the table."""
        fresh = Workspace(workspace.root, workspace.data, workspace.output)
        for method in fresh.table.methods:
            for protocol in protocols_of(method, fresh):
                dataset = "imagenet" if protocol in ("xd", "xd_train", "teacher_xd") else "critters"
                for job in plan(Request(method, protocol, dataset, 1), fresh):
                    job.command(fresh)

    found = fuzz(read, [SEED], tmp_path / "configs", "protocols.yaml", (UsageError,))
    assert found["read"]
    assert found["UsageError"]
