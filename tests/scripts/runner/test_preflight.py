"""Missing images, weights and teachers are reported before any job runs."""

from dataclasses import replace
from pathlib import Path

import pytest

from clip import openai
from scripts.runner.job import Job, Teacher, Workspace
from scripts.runner.preflight import needs
from tests.scripts.fake_project import make_project

BACKBONE = "MODEL:\n  BACKBONE:\n    NAME: {}\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setattr(openai, "cache_folder", lambda: tmp_path / "cache")
    place = make_project(tmp_path)
    for name, text in {
        "datasets/caltech101": "DATASET:\n  NAME: Caltech101\n",
        "trainers/CoOp/here": BACKBONE.format("critters-vit-t"),
        "trainers/CoOp/openai": BACKBONE.format("ViT-B/16"),
        "trainers/CoOp/file": BACKBONE.format("mine.pt"),
        "trainers/CoOp/registry": BACKBONE.format("ViT-B-16:laion2b_s34b_b88k"),
        "trainers/PromptKD/kd": BACKBONE.format("critters-vit-t"),
    }.items():
        path = tmp_path / "configs" / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return place


def job(place: Workspace, dataset: str = "critters", config: str = "here", **options: str) -> Job:
    trainer = "PromptKD" if config == "kd" else "CoOp"
    folder = place.output / dataset / config
    published = place.root / "teacher_model/Critters/VLPromptLearner/model-best.pth.tar"
    return Job(
        *(f"{config} job", trainer, dataset, 1, f"{trainer}/{config}", folder, options),
        teacher=Teacher(published, "critters-vit-t") if config == "kd" else None,
    )


def lines(place: Workspace, *jobs: Job) -> list[tuple[str, bool]]:
    return [(need.line, need.blocks) for need in needs(jobs, place)]


def test_rendered_and_bundled_files_are_not_missing(place: Workspace) -> None:
    assert lines(place, job(place)) == []


def test_images_and_split_file(place: Workspace) -> None:
    folder = place.data / "caltech-101"
    (line, blocks) = lines(place, job(place, "caltech101"))[0]
    assert blocks
    assert f"Caltech101 lacks {folder / '101_ObjectCategories'}, " in line
    assert "split_zhou_Caltech101.json" in line
    (folder / "101_ObjectCategories").mkdir(parents=True)
    assert "101_ObjectCategories" not in lines(place, job(place, "caltech101"))[0][0]
    (folder / "split_zhou_Caltech101.json").touch()
    assert lines(place, job(place, "caltech101")) == []


def test_imagenets_class_names_and_folders(place: Workspace) -> None:
    line = lines(place, job(place, "imagenet"))[0][0]
    for part in ("images/train", "images/val", "classnames.txt"):
        assert str(place.data / "imagenet" / part) in line


def test_openai_weights_are_downloaded_unless_present(place: Workspace) -> None:
    (line, blocks) = lines(place, job(place, config="openai"))[0]
    assert not blocks
    assert f"ViT-B/16 will be downloaded to {place.root / 'cache/ViT-B-16.pt'}" in line
    (place.root / "clip").mkdir()
    (place.root / "clip" / "ViT-B-16.pt").touch()
    assert lines(place, job(place, config="openai")) == []


def test_other_weights(place: Workspace) -> None:
    assert lines(place, job(place, config="file")) == [
        ("weights: there is no model and no file 'mine.pt'", True)
    ]
    (place.root / "mine.pt").touch()
    assert lines(place, job(place, config="file")) == []
    assert not lines(place, job(place, config="registry"))[0][1]


def test_teacher_is_a_file_or_a_job_of_the_plan(place: Workspace) -> None:
    student = job(place, config="kd")
    published = place.root / "teacher_model/Critters/VLPromptLearner/model-best.pth.tar"
    assert lines(place, student) == [
        (f"teacher: there is no {published} (put PromptKD's published file there)", True)
    ]
    published.parent.mkdir(parents=True)
    published.touch()
    assert lines(place, student) == []

    teacher = job(place)
    weights = teacher.folder / "VLPromptLearner" / "model.pth.tar-20"
    own = replace(student, teacher=Teacher(weights, "critters-vit-t"))
    assert lines(place, own)[0][1]
    ((line, blocks),) = lines(place, teacher, own)
    assert not blocks
    assert line == f"teacher: {weights} will be trained here (here job)"


def test_finished_jobs_need_no_files_and_jobs_are_counted(place: Workspace) -> None:
    finished = job(place, "caltech101")
    finished.folder.mkdir(parents=True)
    (finished.folder / "finished.json").write_text("{}")
    assert needs([finished], place) == []
    others = [replace(finished, folder=place.output / name) for name in ("a", "b")]
    (need,) = needs([finished, *others], place)
    assert need.jobs == others
