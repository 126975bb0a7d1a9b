"""The protocol table and its jobs: folders, configs, epochs and options."""

from functools import cache
from pathlib import Path

import pytest

from dassl.config.flat import read_config
from dassl.utils import UsageError
from scripts.runner.job import Job, Request, Workspace
from scripts.runner.plan import plan, protocols_of
from scripts.runner.protocol_table import ProtocolTable
from scripts.runner.run_job import run_job
from tests.scripts.fake_project import ROOT, make_project


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    return make_project(tmp_path)


def jobs(
    place: Workspace, method: str, protocol: str, dataset: str = "dtd", **more: object
) -> list[Job]:
    return plan(Request(method, protocol, dataset, 1, **more), place)  # type: ignore[arg-type]


def folders(place: Workspace, *request: str, **more: object) -> list[str]:
    return [str(job.folder.relative_to(place.output)) for job in jobs(place, *request, **more)]


FOLDERS = """
coop base2new_train dtd: base2new/train_base/dtd/shots_16/CoOp/vit_b16_ctxv1/seed1
coop base2new_test dtd: base2new/test_new/dtd/shots_16/CoOp/vit_b16_ctxv1/seed1
coop base2new_train imagenet: base2new/train_base/imagenet/shots_16/CoOp/vit_b16_ep50_ctxv1/seed1
coop base2new_train critters: base2new/train_base/critters/shots_16/CoOp/critters/seed1
textrefiner base2new_test dtd: \
base2new/test_new/dtd/shots_16/TextRefinerCoOp/vit_b16_ep10_ctxv1/seed1
coop xd_train imagenet: imagenet/CoOp/vit_b16_ep50_ctxv1_16shots/seed1
coop xd_test dtd: evaluation/CoOp/vit_b16_ep50_ctxv1_16shots/dtd/seed1
textrefiner xd_test dtd: evaluation/TextRefinerCoOp/vit_b16_ep10_ctxv1_16shots/dtd/seed1
coop fewshot dtd: \
dtd/CoOp/vit_b16_ep50_1shots/nctx16_cscFalse_ctpend/seed1 \
dtd/CoOp/vit_b16_ep100_2shots/nctx16_cscFalse_ctpend/seed1 \
dtd/CoOp/vit_b16_ep100_4shots/nctx16_cscFalse_ctpend/seed1 \
dtd/CoOp/vit_b16_8shots/nctx16_cscFalse_ctpend/seed1 \
dtd/CoOp/vit_b16_16shots/nctx16_cscFalse_ctpend/seed1
cocoop base2new_test dtd: \
base2new/test_new/dtd/shots_16/CoCoOp/vit_b16_c4_ep10_batch1_ctxv1/seed1
textrefiner-cocoop xd_test dtd: \
evaluation/TextRefinerCoCoOp/vit_b16_c4_ep10_batch1_ctxv1_16shots/dtd/seed1
textrefiner-cocoop fewshot dtd: \
dtd/TextRefinerCoCoOp/vit_b16_c4_ep10_batch1_ctxv1_1shots/nctx4_cscFalse_ctpend/seed1 \
dtd/TextRefinerCoCoOp/vit_b16_c4_ep10_batch1_ctxv1_2shots/nctx4_cscFalse_ctpend/seed1 \
dtd/TextRefinerCoCoOp/vit_b16_c4_ep10_batch1_ctxv1_4shots/nctx4_cscFalse_ctpend/seed1 \
dtd/TextRefinerCoCoOp/vit_b16_c4_ep10_batch1_ctxv1_8shots/nctx4_cscFalse_ctpend/seed1 \
dtd/TextRefinerCoCoOp/vit_b16_c4_ep10_batch1_ctxv1_16shots/nctx4_cscFalse_ctpend/seed1
coop zeroshot dtd: \
ZeroshotCLIP/vit_b16/dtd/all/seed1 \
ZeroshotCLIP/vit_b16/dtd/base/seed1 \
ZeroshotCLIP/vit_b16/dtd/new/seed1
"""


@pytest.mark.parametrize("line", FOLDERS.replace("\\\n", "").strip().splitlines())
def test_folders_are_those_of_the_public_scripts(place: Workspace, line: str) -> None:
    words, _, expected = line.partition(": ")
    assert folders(place, *words.split()) == expected.split()


def test_fewshot_on_imagenet_trains_50_epochs_for_every_number_of_shots(place: Workspace) -> None:
    assert {job.config for job in jobs(place, "coop", "fewshot", "imagenet")} == {
        "CoOp/vit_b16_ep50"
    }


def test_base2new_tests_the_model_that_it_trained(place: Workspace) -> None:
    training, test = jobs(place, "coop", "base2new")
    assert training.command(place)[2:] == [
        *("--root", "data", "--seed", "1", "--trainer", "CoOp"),
        *("--dataset-config-file", "configs/datasets/dtd.yaml"),
        *("--config-file", "configs/trainers/CoOp/vit_b16_ctxv1.yaml"),
        *("--output-dir", "output/base2new/train_base/dtd/shots_16/CoOp/vit_b16_ctxv1/seed1"),
        *("TRAIN.CHECKPOINT_FREQ", "10"),
        *("DATASET.NUM_SHOTS", "16", "DATASET.SUBSAMPLE_CLASSES", "base"),
    ]
    assert test.command(place)[-9:] == [
        *("--model-dir", "output/base2new/train_base/dtd/shots_16/CoOp/vit_b16_ctxv1/seed1"),
        *("--load-epoch", "200", "--eval-only"),
        *("DATASET.NUM_SHOTS", "16", "DATASET.SUBSAMPLE_CLASSES", "new"),
    ]


def test_cocoop_loads_epoch_10(place: Workspace) -> None:
    for method in ("cocoop", "textrefiner-cocoop"):
        assert [job.epoch for job in jobs(place, method, "base2new")] == [None, 10]


@pytest.mark.parametrize(
    ("dataset", "mean", "std"),
    [("dtd", "45", "5"), ("eurosat", "45", "5"), ("food101", "30", "30")],
)
def test_promptsrc_few_shot_aggregation_depends_on_the_dataset(
    dataset: str, mean: str, std: str
) -> None:
    real = Workspace(ROOT, ROOT / "data", ROOT / "output")
    last = plan(Request("promptsrc", "fewshot", dataset, seed=1), real)[-1]
    options = {**read_config(real.trainer_config(last.config)), **last.options}
    found = [str(options[f"TRAINER.PROMPTSRC.GPA_{key}"]) for key in ("MEAN", "STD")]
    assert found == [mean, std]
    assert last.folder.parts[-2:] == ("vit_b16_c2_ep50_batch4_4+4ctx_few_shot_16shots", "seed1")


def test_loaded_epoch_is_taken_from_the_command_line(place: Workspace) -> None:
    _, test = jobs(place, "coop", "base2new", options={"OPTIM.MAX_EPOCH": "7"})
    assert test.epoch == 7


def test_best_val_loads_no_epoch(place: Workspace) -> None:
    _, test = jobs(place, "coop", "base2new", options={"TEST.FINAL_MODEL": "best_val"})
    assert "--load-epoch" not in test.command(place)
    assert "--eval-only" in test.command(place)


def test_xd_test_loads_the_source_model_with_its_config(place: Workspace) -> None:
    (test,) = jobs(place, "coop", "xd_test", "dtd", source="critters")
    assert test.config == "CoOp/critters"
    assert test.model_folder == place.output / "critters/CoOp/critters_16shots/seed1"
    assert (test.dataset, test.epoch) == ("dtd", 3)


def test_zeroshot_uses_coops_config_and_loads_no_model(place: Workspace) -> None:
    every, base, _ = jobs(place, "textrefiner", "zeroshot", "critters")
    assert (every.trainer, every.config, every.model_folder) == (
        "ZeroshotCLIP",
        "CoOp/critters",
        None,
    )
    assert every.command(place)[-1] == "--eval-only"
    assert base.options == {"DATASET.SUBSAMPLE_CLASSES": "base"}


def test_user_options_and_environment_take_precedence(place: Workspace) -> None:
    options = {"TRAINER.COOP.N_CTX": "4", "TRAINER.COOP.CSC": "True"}
    (job,) = jobs(place, "coop", "fewshot", options=options, config="vit_b16_ep50", shots=(3,))
    assert "CoOp/vit_b16_ep50_3shots/nctx4_cscTrue_ctpend" in str(job.folder)
    assert job.options["TRAINER.COOP.N_CTX"] == "4"
    assert job.options["DATASET.NUM_SHOTS"] == "3"


def test_paths_outside_of_the_repository_are_absolute(tmp_path: Path) -> None:
    inside = make_project(tmp_path)
    place = Workspace(inside.root, Path("/images"), Path("/results"))
    (job,) = jobs(place, "coop", "base2new_train")
    assert job.command(place)[3] == "/images"
    assert "/results/base2new/train_base/dtd/shots_16/CoOp/vit_b16_ctxv1/seed1" in job.command(
        place
    )


@pytest.mark.parametrize(
    ("words", "more", "sentence"),
    [
        (("cop", "base2new", "dtd"), {}, "unknown method 'cop': did you mean 'coop'"),
        (("coop", "base2old", "dtd"), {}, "unknown protocol 'base2old': did you mean 'base2new'"),
        (("coop", "base2new", "dtdd"), {}, "unknown dataset 'dtdd': did you mean 'dtd'"),
        (("coop", "xd_test", "dtd"), {"source": "imgnet"}, "dataset 'imgnet': did you mean"),
        (("coop", "base2new", "dtd"), {"config": "vit_b61"}, "did you mean 'CoOp/vit_b16'"),
        (("coop", "base2new", "dtd"), {"options": {"DATASET.NUM_SHOTS": "4"}}, "with SHOTS in"),
        (("coop", "base2new", "dtd"), {"options": {"SEED": "4"}}, "SEED cannot be a KEY"),
        (("coop", "base2new", "dtd"), {"options": {"OPTIM.MAX_EPOCH": "x"}}, "number, got 'x'"),
        (("coop", "base2new", "dtd"), {"options": {"OPTIM.MAX_EPOCH": "None"}}, "number, got None"),
        (("coop", "base2new", "dtd"), {"options": {"OPTIM.MAX_EPOCH": "0"}}, "number, got 0"),
        (("coop", "fewshot", "dtd"), {"options": {"TRAINER.COOP.CTX_INIT": "True"}}, "got True"),
        (("coop", "fewshot", "dtd"), {"options": {"TRAINER.COOP.CTX_INIT": "None"}}, "got None"),
    ],
)  # fmt: skip
def test_unknown_arguments_are_reported_with_the_nearest(
    place: Workspace, words: tuple[str, ...], more: dict[str, object], sentence: str
) -> None:
    with pytest.raises(UsageError) as error:
        jobs(place, *words, **more)
    assert sentence in str(error.value)


def test_error_for_a_config_without_epochs(place: Workspace) -> None:
    (place.root / "configs/trainers/CoOp/critters.yaml").write_text(
        "TRAINER:\n  COOP: {N_CTX: 4}\n"
    )
    with pytest.raises(UsageError, match=r"add OPTIM\.MAX_EPOCH N"):
        jobs(place, "coop", "base2new", "critters")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"OPTIM: {MAX_EPOCH: 3\nTRAINER: 4", "is not valid YAML"),
        (b"# caf\xe9\nOPTIM: {MAX_EPOCH: 3}", "it is not UTF-8 text"),
        (b"3", "must have KEY: value lines"),
        (b"_BASE_: critters.yaml", "is its own _BASE_"),
    ],
)
def test_unreadable_config_is_reported_in_one_sentence(
    place: Workspace, content: bytes, sentence: str
) -> None:
    (place.root / "configs/trainers/CoOp/critters.yaml").write_bytes(content)
    with pytest.raises(UsageError) as error:
        jobs(place, "coop", "base2new", "critters")
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_method_is_added_with_one_table_entry(tmp_path: Path) -> None:
    place = make_project(tmp_path)
    config = tmp_path / "configs/trainers/Distilled/c2.yaml"
    config.parent.mkdir()
    config.write_text("OPTIM: {MAX_EPOCH: 20}\n")
    entry = """
  distilled:
    trainer: Distilled
    base2new:
      config: c2
      shots: 16
      epoch: 5
      options: {TRAINER.PROMPTKD.KD_WEIGHT: 1000.0}
      except:
        - {for: {dataset: [dtd, oxford_flowers]}, options: {TRAINER.PROMPTKD.KD_WEIGHT: 200.0}}
"""
    with open(tmp_path / "configs/protocols.yaml", "a") as file:
        file.write(entry)
    training, test = jobs(place, "distilled", "base2new", "dtd")
    assert training.options["TRAINER.PROMPTKD.KD_WEIGHT"] == "200.0"
    assert test.epoch == 5
    other, _ = jobs(place, "distilled", "base2new", "imagenet")
    assert other.options["TRAINER.PROMPTKD.KD_WEIGHT"] == "1000.0"
    assert jobs(place, "distilled", "zeroshot")[0].trainer == "ZeroshotCLIP"
    with pytest.raises(UsageError, match="distilled has no protocol 'fewshot'"):
        jobs(place, "distilled", "fewshot")


LASP = """
  lasp:
    trainer: LASP
    config_node: LASP
    base2new: {config: c4, shots: 16}
    fewshot: {config: c4, shots: 16, folder_suffix: "nctx{N_CTX}"}
"""


@pytest.fixture
def lasp(place: Workspace) -> Workspace:
    """Add a method that has its own config node."""
    config = place.root / "configs/trainers/LASP/c4.yaml"
    config.parent.mkdir()
    config.write_text(
        "OPTIM: {MAX_EPOCH: 3}\nTRAINER: {LASP: {N_CTX: 4, CTX_INIT: a photo of a}}\n"
    )
    with open(place.root / "configs/protocols.yaml", "a") as file:
        file.write(LASP)
    return place


def test_two_context_lengths_of_any_method_never_share_a_folder(lasp: Workspace) -> None:
    eight = {"TRAINER.LASP.N_CTX": "8"}
    assert folders(lasp, "lasp", "fewshot") == ["dtd/LASP/c4_16shots/nctx4/seed1"]
    assert folders(lasp, "lasp", "fewshot", options=eight) == ["dtd/LASP/c4_16shots/nctx8/seed1"]
    # base2new uses the folder of CoCoOp's scripts, so other settings raise.
    (training,) = jobs(lasp, "lasp", "base2new_train")
    (other,) = jobs(lasp, "lasp", "base2new_train", options=eight)
    run_job(training, lasp)
    with pytest.raises(UsageError, match=r"TRAINER\.LASP\.N_CTX was 4, now is 8"):
        run_job(other, lasp)


def test_folder_suffix_without_a_value_is_reported_in_one_sentence(lasp: Workspace) -> None:
    config = lasp.root / "configs/trainers/LASP/c4.yaml"
    config.write_text("OPTIM: {MAX_EPOCH: 3}\n")
    with pytest.raises(UsageError, match=r"'nctx\{N_CTX\}' of lasp .* needs TRAINER\.LASP\.N_CTX"):
        folders(lasp, "lasp", "fewshot")


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "nctx16_cscFalse_ctpend"),
        ({"N_CTX": "4", "CSC": "True"}, "nctx4_cscTrue_ctpend"),
        ({"CTX_INIT": "a photo of a"}, "nctx4_cscFalse_ctpend"),
        # Two values of N_CTX never share a folder, even if CTX_INIT overrides both.
        ({"N_CTX": "8", "CTX_INIT": "a photo of a"}, "nctx8_cscFalse_ctpend"),
        ({"N_CTX": "16", "CTX_INIT": "a photo of a", "CSC": "True"}, "nctx16_cscTrue_ctpend"),
        ({"CLASS_TOKEN_POSITION": "middle"}, "nctx16_cscFalse_ctpmiddle"),
    ],
)
def test_context_folder_matches_coop(place: Workspace, options: dict[str, str], name: str) -> None:
    pairs = {f"TRAINER.COOP.{key}": value for key, value in options.items()}
    (folder,) = folders(place, "coop", "fewshot", shots=(16,), options=pairs)
    assert folder == f"dtd/CoOp/vit_b16_16shots/{name}/seed1"


def test_misspelled_field_of_the_table_is_named(tmp_path: Path) -> None:
    tree = {
        "synthetic_datasets": {"pattern": "critters*", "config": "critters"},
        "methods": {"coop": {"trainer": "CoOp", "xd": {"confg": "a"}}},
    }
    with pytest.raises(UsageError, match=r"unknown key 'confg'.*'config'"):
        ProtocolTable(tree, tmp_path).setting("coop", "xd", "dtd")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("methods: {coop: [", "is not valid YAML"),
        ("- coop", "the file must contain KEY: value lines, got ['coop']"),
        ("", "the file must contain KEY: value lines, got None"),
        ("methods: {}", "the file lacks synthetic_datasets"),
        ("metods: {}", "the file has the unknown key 'metods': did you mean 'methods'"),
        ("methods: {}\nsynthetic_datasets: {pattern: x}", "synthetic_datasets lacks config"),
        (
            "{methods: [], synthetic_datasets: DRAWN}",
            "methods must contain KEY: value lines, got []",
        ),
        (
            "{methods: {coop: 3}, synthetic_datasets: DRAWN}",
            "coop must contain KEY: value lines, got 3",
        ),
        ("{methods: {coop: {}}, synthetic_datasets: DRAWN}", "coop lacks trainer"),
        (
            "{methods: {coop: {trainer: A, xd: {}}}, synthetic_datasets: DRAWN}",
            "coop, xd lacks config",
        ),
        (
            "{methods: {coop: {trainer: A, xd: {config: a, except: {}}}}, "
            "synthetic_datasets: DRAWN}",
            "coop, xd, except must be a list of entries",
        ),
        (
            "{methods: {coop: {trainer: A, xd: {config: a, except: [{config: b}]}}}, "
            "synthetic_datasets: DRAWN}",
            "coop, xd, except 1 lacks for",
        ),
        (
            "{methods: {}, synthetic_datasets: DRAWN, domains: [a]}",
            "domains must contain KEY: value",
        ),
    ],
)
def test_invalid_table_is_reported_in_one_sentence(
    place: Workspace, content: str, sentence: str
) -> None:
    table = place.root / "configs/protocols.yaml"
    table.write_text(content.replace("DRAWN", "{pattern: x, config: y}"))
    with pytest.raises(UsageError) as error:
        jobs(place, "coop", "base2new")
    assert str(table) in str(error.value)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_table_is_reported_in_one_sentence(place: Workspace) -> None:
    (place.root / "configs/protocols.yaml").unlink()
    with pytest.raises(UsageError, match=r"cannot read .*protocols\.yaml: No such file"):
        jobs(place, "coop", "base2new")


def test_every_protocol_of_every_method_finds_its_configs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scripts.runner.plan.read_config", cache(read_config))  # half the time
    real = Workspace(ROOT, ROOT / "data", ROOT / "output")
    for method in real.table.methods:
        for protocol in protocols_of(method, real):
            whole = protocol in ("xd", "dg")
            for dataset in ("imagenet", "critters") if whole else real.datasets:
                for job in jobs(real, method, protocol, dataset):
                    assert real.trainer_config(job.config)
                    assert real.dataset_config(job.dataset).is_file()
