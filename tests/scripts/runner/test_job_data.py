"""A finished job is skipped only if its data are those that were used."""

import json
from pathlib import Path

import pytest

from dassl.utils import UsageError
from scripts.runner import job_data
from scripts.runner.job import Job, Request, Workspace
from scripts.runner.plan import plan
from scripts.runner.run_job import run_job
from tests.scripts.fake_project import make_project
from tests.toy_data import write_image


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    place = make_project(tmp_path)
    config = place.root / "configs" / "datasets" / "own.yaml"
    config.write_text('DATASET: {NAME: "ImageFolder"}\n')
    for part, count in {"train": 3, "val": 2, "test": 2}.items():
        for name in ("ant", "bee", "cat", "dog"):
            for number in range(count):
                write_image(place.data / part / name / f"{number}.png", seed=number)
    return place


def finished(place: Workspace) -> Job:
    """Return a finished job with the record that train.py writes of its data."""
    job = plan(Request("coop", "base2new", "own", 1, shots=(2,)), place)[0]
    assert run_job(job, place) is not None
    job_data._describe.cache_clear()
    values = {k: v for k, v in job.settings(place).items() if k.startswith("DATASET.")}
    data = job_data._describe(str(place.data), 1, tuple(sorted(values.items())))
    record = json.loads((job.folder / "run.json").read_text())
    (job.folder / "run.json").write_text(json.dumps({**record, "data": data}))
    assert data["classes"] == ["ant", "bee"]
    assert data["train"]["images"] == 4
    return job


def rename_class(data: Path) -> None:
    for part in ("train", "val", "test"):
        (data / part / "bee").rename(data / part / "bumblebee")


def rename_image(data: Path) -> None:
    (data / "test" / "ant" / "0.png").rename(data / "test" / "ant" / "9.png")


def add_class(data: Path) -> None:
    for part in ("train", "val", "test"):
        for number in range(2):
            write_image(data / part / "eel" / f"{number}.png", seed=number)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename_class, "class 1 was 'bee', now is 'bumblebee'"),
        (rename_image, "the test images were 4, now are 4 others"),
        (add_class, "class 2, 'cat', is new"),
    ],
)
def test_finished_job_with_other_data_is_refused(
    place: Workspace, change: object, message: str
) -> None:
    job = finished(place)
    assert run_job(job, place) is None
    change(place.data)  # type: ignore[operator]
    for path in (place.data / "split_fewshot").iterdir():
        path.unlink()
    job_data._describe.cache_clear()
    with pytest.raises(UsageError, match="on other data") as caught:
        run_job(job, place)
    assert message in str(caught.value)


def test_missing_data_are_not_compared(
    place: Workspace, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    job = finished(place)
    place.data.rename(tmp_path / "elsewhere")
    job_data._describe.cache_clear()
    assert run_job(job, place) is None
    assert "its data cannot be compared with its record" in capfd.readouterr().out
