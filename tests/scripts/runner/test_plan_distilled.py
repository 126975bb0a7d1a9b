"""Plans of students with their teachers, and of cross-dataset tests."""

from pathlib import Path

import pytest

from dassl.config import get_cfg_default
from dassl.utils import UsageError
from scripts.runner.job import Job, Request, Workspace
from scripts.runner.plan import plan, protocols_of
from tests.scripts.fake_project import ROOT
from trainers import extend_cfg
from trainers.checkpoints.teacher import teacher_path
from trainers.settings import SettingsError

WEIGHTS = "TRAINER.PROMPTKD.TEACHER_WEIGHTS"
STUDENTS = ("promptkd", "textrefiner-promptkd")
L14 = "vit_l14_c2_ep20_batch8_4+4ctx"
BASE = f"base2new/train_base/dtd/shots_16/PromptSRC/{L14}/seed1"


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    """Return the real configs, an empty output folder, and a root without public teachers."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    return Workspace(tmp_path, tmp_path / "data", tmp_path / "output")


def jobs(place: Workspace, method: str, protocol: str, dataset: str, **more: object) -> list[Job]:
    return plan(Request(method, protocol, dataset, 2, **more), place)  # type: ignore[arg-type]


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True)
    path.touch()
    return path


def test_student_is_trained_once_and_tested_on_base_and_new_classes(place: Workspace) -> None:
    teacher, student, test = jobs(place, "promptkd", "base2new", "dtd")
    assert teacher.folder == place.output / BASE
    assert (teacher.seed, teacher.options["DATASET.SUBSAMPLE_CLASSES"]) == (1, "base")
    assert student.config == "PromptKD/vit_b16_c2_ep20_batch8_4+4ctx"
    assert "base2new/train_base/dtd/shots_0/PromptKD" in str(student.folder)
    assert test.model_folder == student.folder
    assert test.epoch is None  # PromptKD selects the epoch that is best on the base classes
    for job, split in ((student, "val"), (test, "test")):
        assert job.options["TEST.SPLIT"] == split
        assert "DATASET.SUBSAMPLE_CLASSES" not in job.options
        assert job.options["TRAINER.MODAL"] == "base2novel"
        assert job.options[WEIGHTS] == f"output/{BASE}/VLPromptLearner/model.pth.tar-20"


@pytest.mark.parametrize(("dataset", "weight"), [("dtd", "200.0"), ("food101", None)])
@pytest.mark.parametrize("method", STUDENTS)
def test_distillation_weight(
    place: Workspace, method: str, dataset: str, weight: str | None
) -> None:
    *_, student, _ = jobs(place, method, "base2new", dataset)
    assert student.options.get("TRAINER.PROMPTKD.KD_WEIGHT") == weight  # 1000 in the config
    assert student.options["DATASET.NUM_SHOTS"] == {"promptkd": "0"}.get(method, "16")


def test_teacher_for_critters_uses_a_critters_backbone(place: Workspace) -> None:
    teacher, student, test = jobs(place, "promptkd", "base2new", "critters")
    assert (teacher.config, student.config) == ("PromptSRC/critters_teacher", "PromptKD/critters")
    assert test.epoch == 5


def test_teacher_is_taken_from_where_it_exists(place: Workspace) -> None:
    name = "teacher_model/DescribableTextures/VLPromptLearner/model-best.pth.tar"
    public = touch(place.root / name)
    student, _ = jobs(place, "promptkd", "base2new", "dtd")
    assert WEIGHTS not in student.options  # trainers/checkpoints/teacher.py finds it
    touch(place.output / BASE / "VLPromptLearner" / "model.pth.tar-20")
    student, _ = jobs(place, "promptkd", "base2new", "dtd")
    assert student.options[WEIGHTS].startswith(f"output/{BASE}")
    public.unlink()
    student, _ = jobs(place, "promptkd", "base2new", "dtd", options={WEIGHTS: "mine.tar"})
    assert student.options[WEIGHTS] == "mine.tar"


def test_teacher_is_trained_with_its_own_settings(place: Workspace) -> None:
    options = {"OPTIM.MAX_EPOCH": "1", "DATALOADER.NUM_WORKERS": "0"}
    teacher, student, test = jobs(place, "promptkd", "base2new", "critters", options=options)
    assert "OPTIM.MAX_EPOCH" not in teacher.options
    assert teacher.options["DATALOADER.NUM_WORKERS"] == "0"
    assert student.options[WEIGHTS].endswith("model.pth.tar-20")
    assert test.epoch == 1


def test_single_phase_of_the_protocol_trains_no_teacher(place: Workspace) -> None:
    (student,) = jobs(place, "promptkd", "base2new_train", "dtd")
    assert (student.trainer, student.options[WEIGHTS][:7]) == ("PromptKD", "output/")


@pytest.mark.parametrize(
    ("protocol", "dataset", "modal"),
    [("base2new", "dtd", "base2novel"), ("xd", "imagenet", "cross")],
)
def test_public_teacher_paths_match_the_trainer(
    place: Workspace, protocol: str, dataset: str, modal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = get_cfg_default()
    extend_cfg(cfg)
    cfg.DATASET.NAME, cfg.TRAINER.MODAL = "DescribableTextures", modal
    monkeypatch.chdir(place.root)
    with pytest.raises(SettingsError) as error:
        teacher_path(cfg)
    file = str(error.value).split(" at ")[1].split(": ")[0]
    assert len([j for j in jobs(place, "promptkd", protocol, dataset) if j.seed == 1]) == 1
    touch(place.root / file)
    assert all(
        job.seed == 2 and WEIGHTS not in job.options
        for job in jobs(place, "promptkd", protocol, dataset)
    )


@pytest.mark.parametrize("method", STUDENTS)
def test_cross_dataset_student_is_distilled_on_the_target(place: Workspace, method: str) -> None:
    teacher, *students = jobs(place, method, "xd", "imagenet")
    assert teacher.folder == place.output / f"imagenet/PromptSRC/{L14}_16shots/seed1"
    assert "DATASET.SUBSAMPLE_CLASSES" not in teacher.options
    assert [job.dataset for job in students] == place.table.targets("cross_datasets", "imagenet")
    for job in students:
        assert job.config.endswith("/vit_b16_c2_ep20_batch8_4+4ctx_cross_datasets")
        assert not job.eval_only
        assert job.options["TRAINER.MODAL"] == "cross"
        assert "TEST.SPLIT" not in job.options
        assert "TRAINER.PROMPTKD.KD_WEIGHT" not in job.options
        assert job.options[WEIGHTS] == f"{place.short(teacher.folder)}/VLPromptLearner/" + (
            "model.pth.tar-20"
        )
    (alone,) = jobs(place, method, "xd_train", "caltech101")
    assert alone.folder == students[0].folder
    assert alone.options == students[0].options


def test_teacher_of_a_target_is_trained_on_the_source(place: Workspace) -> None:
    (student,) = jobs(place, "promptkd", "xd_train", "critters_far")
    assert "output/critters/PromptSRC/critters_teacher_16shots/seed1" in student.options[WEIGHTS]
    (student,) = jobs(place, "promptkd", "xd_train", "critters_far", source="critters_far")
    assert "output/critters_far/PromptSRC" in student.options[WEIGHTS]


def test_xd_and_dg_share_the_training(place: Workspace) -> None:
    training, *tests = jobs(place, "coop", "xd", "imagenet")
    same, *domains = jobs(place, "coop", "dg", "imagenet")
    assert (training.folder, training.options) == (same.folder, same.options)
    assert training.folder == place.output / "imagenet/CoOp/vit_b16_ep50_ctxv1_16shots/seed2"
    assert len(tests) == 10
    assert [job.dataset for job in domains] == [
        *("imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r"),
    ]
    for job in (*tests, *domains):
        assert job.model_folder == training.folder
        (alone,) = jobs(place, "coop", "xd_test", job.dataset)
        assert (alone.folder, alone.command(place)) == (job.folder, job.command(place))


def test_critters_protocols_use_its_domains_and_critters_far(place: Workspace) -> None:
    assert [job.dataset for job in jobs(place, "maple", "xd", "critters")] == [
        *("critters", "critters_far"),
    ]
    assert {job.config for job in jobs(place, "maple", "dg", "critters")} == {"MaPLe/critters"}
    assert len(jobs(place, "maple", "dg", "critters")) == 5


def test_variants_are_only_tested_and_on_all_classes(place: Workspace) -> None:
    (job,) = jobs(place, "coop", "zeroshot", "imagenet_a")
    assert "DATASET.SUBSAMPLE_CLASSES" not in job.options
    assert len(jobs(place, "coop", "zeroshot", "dtd")) == 3


@pytest.mark.parametrize(
    ("words", "options", "sentence"),
    [
        (("promptkd", "xd_test", "dtd"), {}, "promptkd has no protocol 'xd_test'"),
        (("promptkd", "fewshot", "dtd"), {}, "promptkd has no protocol 'fewshot'"),
        (("coop", "teacher", "dtd"), {}, "coop has no protocol 'teacher'"),
        (("coop", "xd", "dtd"), {}, "no cross_datasets of the source 'dtd': allowed: critters"),
        (("coop", "dg", "dtd"), {}, "no domains of the source 'dtd': allowed: critters, imagenet"),
        (("promptkd", "base2new", "dtd"), {"TEST.SPLIT": "val"}, "TEST.SPLIT cannot be a KEY"),
        (("promptkd", "base2new", "dtd"), {"TRAINER.MODAL": "cross"}, "the protocol chooses it"),
    ],
)
def test_incompatible_choices_are_reported_in_one_sentence(
    place: Workspace, words: tuple[str, str, str], options: dict[str, str], sentence: str
) -> None:
    with pytest.raises(UsageError) as error:
        jobs(place, *words, options=options)
    assert sentence in str(error.value)


def test_a_target_without_a_config_is_named(tmp_path: Path) -> None:
    (tmp_path / "configs/datasets").mkdir(parents=True)
    (tmp_path / "configs/trainers").symlink_to(ROOT / "configs/trainers")
    (tmp_path / "configs/protocols.yaml").symlink_to(ROOT / "configs/protocols.yaml")
    (tmp_path / "configs/datasets/imagenet.yaml").write_text("DATASET: {NAME: ImageNet}")
    place = Workspace(tmp_path, tmp_path / "data", tmp_path / "output")
    with pytest.raises(UsageError, match="lists imagenetv2 among the domains of imagenet, but"):
        jobs(place, "coop", "dg", "imagenet")


def test_protocols_of_a_method_are_read_from_its_table(place: Workspace) -> None:
    assert protocols_of("promptkd", place) == [
        *("base2new", "base2new_train", "base2new_test", "xd", "xd_train", "dg", "zeroshot"),
    ]
    assert {"teacher", "teacher_xd"} < set(protocols_of("promptsrc", place))
