"""TensorBoard's event files, as the report reads them."""

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from dassl.utils import UsageError
from scripts.page.curves import read_scalars
from tests.fuzz.harness import fuzz

NAME = "events.out.tfevents.1.toy.1.0"


def test_a_damaged_file_is_read_as_far_as_possible(tmp_path: Path) -> None:
    seeds = []
    for number, tags in enumerate((["train/loss"], ["train/loss", "train/lr", "val/accuracy"])):
        folder = tmp_path / f"seed{number}"
        with SummaryWriter(log_dir=str(folder)) as writer:
            for step in range(4):
                for tag in tags:
                    writer.add_scalar(tag, 0.5 * step, step)
        (path,) = folder.iterdir()
        seeds.append(path.read_bytes())
        assert set(read_scalars(folder)) == set(tags)
    (tmp_path / "mutants").mkdir()
    found = fuzz(
        lambda path: read_scalars(path.parent), seeds, tmp_path / "mutants", NAME, (UsageError,)
    )
    print(found)
    assert found["read"] > 0
