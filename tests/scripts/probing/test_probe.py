"""scripts/probe.py on toy runs of every refined method: against trainers, report and records."""

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from dassl.utils import UsageError
from scripts import probe as script
from scripts.page.build import sections_of
from scripts.probing.probe import probe
from scripts.probing.reads import VERSIONS
from scripts.probing.records import Half, Probe, Probes
from scripts.probing.run import full_config, open_run
from scripts.probing.table import USE, alike, render, rows
from tests.scripts.probing import naive
from tests.trainers.classifier.runs import METHODS, Runs
from trainers.classifier.classifier import has_class_parameters

REFINED = [name for name in METHODS if name.startswith("TextRefiner")]


def predictions(trainer: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return predictions and labels of the test images by the trainer's own inference."""
    trainer.set_model_mode("eval")
    infer = trainer.inference()
    with torch.no_grad():
        found = [(infer(b["img"]).argmax(dim=1), b["label"]) for b in trainer.test_loader]
    predicted, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
    return predicted, labels


def accuracies(half: Half) -> dict[str, float]:
    return {row.version: row.accuracy for row in half.replacements}


@pytest.mark.parametrize("method", REFINED)
def test_accuracies_are_the_trainers(method: str, runs: Runs, tmp_path: Path) -> None:
    folder = runs.folder(method)
    (found,) = probe([folder]).runs
    trainers = {"base": runs.trainer(method)}
    if not has_class_parameters(trainers["base"].model):
        new = runs.world.build(method, tmp_path, "DATASET.SUBSAMPLE_CLASSES", "new")
        new.load_model(str(folder), epoch=2)
        trainers["new"] = new
    assert [half.classes for half in found.halves] == list(trainers)
    for half, trainer in zip(found.halves, trainers.values(), strict=True):
        predicted, labels = predictions(trainer)
        assert half.images == len(labels) == 12
        expected = 100 * float((predicted == labels).float().mean())
        assert accuracies(half)["model"] == pytest.approx(expected)
        assert [row.name for row in half.reading.classes] == trainer.dm.dataset.classnames


@pytest.mark.parametrize("method", REFINED)
def test_numbers_are_those_of_the_report(method: str, runs: Runs) -> None:
    folder = runs.folder(method)
    (found,) = probe([folder]).runs
    parts = {name: part.numbers for name, part in sections_of(open_run(folder)).items()}
    half = found.halves[0]
    shown = [
        {key: value for key, value in row.items() if key != "title"}
        for row in parts["refinement"]["versions"]
    ]
    assert shown == msgspec.to_builtins(half.replacements)
    reading = parts["reading"]
    assert reading["weight_times_entries"]["min"] == half.reading.weight_min
    assert reading["weight_times_entries"]["max"] == half.reading.weight_max
    assert reading["mean_entropy"] == half.reading.mean_entropy
    assert reading["class_dependent_share"] == half.reading.share
    assert reading["added_share"] == half.reading.added_share
    assert reading["read_cosine"]["min"] == half.reading.cosine_min
    last, cache = found.epochs[-1], parts["cache"]
    tokens = {row["entry"]: row["tokens"] for row in cache["entries"]}
    assert [tokens[j + 1] for j in range(25)] == last.tokens
    assert sum(last.tokens) == 102  # 6 images of 16 patches and a CLS token
    assert cache["cosines"]["mean"] == pytest.approx(last.cosine_mean, abs=1e-6)


def test_replaced_reads_classify_as_loops_say(runs: Runs) -> None:
    # Class-specific contexts and a sharp read: the texts of toy classes are nearly equal otherwise.
    sharp = ("TRAINER.TEXTREFINER.ALPHA", 5.0, "TRAINER.TEXTREFINER.READ_SCALE", 100.0)
    options = ("TRAINER.COOP.CSC", True, *sharp)
    folder = runs.folder("TextRefinerCoOp", *options)
    (found,) = probe([folder], seed=3).runs
    model, changed = runs.trainer("TextRefinerCoOp", *options), set()
    learner, refiner = model.model.learner, model.model.refiner
    with torch.no_grad():
        texts = naive.measures(refiner, learner.encode_text(None), seed=3).versions
        features = [
            row
            for batch in model.test_loader
            for row in learner.image_features(learner.encode_image(batch["img"], False)).tolist()
        ]
    labels = [label for batch in model.test_loader for label in batch["label"].tolist()]
    chosen: dict[str, list[int]] = {}
    for name in VERSIONS:
        for image in features:
            logits = [naive.dot(image, text) for text in texts[name]]
            chosen.setdefault(name, []).append(logits.index(max(logits)))
    for row in found.halves[0].replacements:
        pairs = list(zip(chosen[row.version], chosen["model"], labels, strict=True))
        assert row.changed == sum(new != old for new, old, _ in pairs)
        assert row.newly_wrong == sum(new != old == label for new, old, label in pairs)
        assert row.newly_right == sum(old != new == label for new, old, label in pairs)
        assert row.accuracy == pytest.approx(100 * sum(n == label for n, _, label in pairs) / 12)
        changed |= {row.version} if row.changed else set()
    assert {"plain", "mean"} <= changed  # the test would see a wrong version


@pytest.mark.parametrize("method", ["TextRefinerCoOp", "TextRefinerMaPLe"])
def test_each_epoch_has_its_own_model(method: str, runs: Runs) -> None:
    options = ("TRAIN.CHECKPOINT_FREQ", 1)
    folder = runs.folder(method, *options)
    (found,) = probe([folder]).runs
    assert [use.epoch for use in found.epochs] == [1, 2]
    run = open_run(folder)
    for use in found.epochs:
        run.classifier = open_run(folder).classifier
        modules = run.classifier.model.trainable_modules()
        for name, module in modules.items():
            path = folder / name / f"model.pth.tar-{use.epoch}"
            state = torch.load(path, weights_only=False)["state_dict"]
            module.load_state_dict(state, strict=False)
        cache = sections_of(run)["cache"].numbers
        tokens = {row["entry"]: row["tokens"] for row in cache["entries"]}
        assert use.tokens == [tokens[j + 1] for j in range(25)]
    assert found.epochs[0].kept is None
    assert 0 < (found.epochs[1].kept or 0) < 1
    # the probed model is the last epoch's, whatever was loaded for the others
    assert found.epochs[-1].tokens == probe([runs.folder(method)]).runs[0].epochs[-1].tokens


def test_tables_of_several_runs(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [runs.folder("TextRefinerCoOp", "SEED", seed) for seed in (1, 2)]
    folders.append(runs.folder("TextRefinerCoOp", "TRAINER.TEXTREFINER.LOCAL", False))
    out = tmp_path / "probe.json"
    capsys.readouterr()
    assert script.main([*map(str, folders), "--json", str(out), "--seed", "9"]) == 0
    printed = capsys.readouterr()
    assert "images/s)" in printed.err
    found = msgspec.json.decode(out.read_bytes(), type=Probes)
    assert found.random_seed == 9
    assert [run.seed for run in found.runs] == [1, 2, 1]
    assert printed.out == render(found)
    one, two = (accuracies(run.halves[1])["model"] for run in found.runs[:2])
    block = printed.out.split("new classes: 12 images")[1].split("T' as trained")[1]
    lines = [line for line in block.splitlines() if line.startswith("| ")]
    assert [line.split(" |")[0][2:].rstrip() for line in lines[1:5]] == [
        "1: TextRefinerCoOp, seed 1",
        "2: TextRefinerCoOp, seed 2",
        "1, 2: mean ± std",
        "3: TextRefinerCoOp, seed 1",
    ]
    middle, spread = (one + two) / 2, abs(one - two) / 2**0.5
    assert f"| {middle:.2f} ± {spread:.2f} " in lines[3]
    assert "Run 1, 2, 3: a single checkpoint" in printed.out
    record = json.loads(out.read_text())["runs"][0]
    assert record["halves"][1]["data"]["classes"] == runs.world.classnames[3:]
    assert record["folder"] == str(folders[0])


def test_a_missing_value_has_no_mean(runs: Runs) -> None:
    found = probe([runs.folder("TextRefinerCoOp")]).runs[0]
    other = msgspec.structs.replace(found, seed=2)
    uses = [found.epochs[-1], msgspec.structs.replace(found.epochs[-1], kept=0.5)]
    groups = alike([found, other])
    assert groups == [[0, 1]]
    lines = rows([found, other], uses, USE, groups)
    assert [line[-1] for line in lines] == ["n/a", "0.5000", "n/a"]
    assert len(rows([found, other], [uses[0], None], USE, groups)) == 1


def test_a_test_folder_is_probed_on_its_own_data(runs: Runs, tmp_path: Path) -> None:
    model = runs.folder("TextRefinerCoOp")
    cfg = full_config(model)
    cfg.MODEL_DIR = str(model)
    cfg.DATASET.SUBSAMPLE_CLASSES = "new"
    (tmp_path / "config.yaml").write_text(cfg.dump())
    tested, trained = probe([tmp_path]).runs[0], probe([model]).runs[0]
    assert tested.model_folder == str(model)
    assert tested.halves == trained.halves[1:]


def test_classes_that_are_tested_in_groups(runs: Runs) -> None:
    options = ("DATASET.DISTILL_ON", "all", "DATASET.SUBSAMPLE_CLASSES", "all")
    folder = runs.folder("TextRefinerPromptKD", *options)
    (found,) = probe([folder]).runs
    assert [half.classes for half in found.halves] == ["base", "new"]
    predicted, labels = predictions(runs.trainer("TextRefinerPromptKD", *options))
    expected = 100 * float((predicted == labels).float().mean())
    assert accuracies(found.halves[1])["model"] == pytest.approx(expected)


def test_class_specific_contexts_have_no_new_classes(runs: Runs) -> None:
    (found,) = probe([runs.folder("TextRefinerCoOp", "TRAINER.COOP.CSC", True)]).runs
    assert [half.classes for half in found.halves] == ["base"]


def test_max_images(runs: Runs) -> None:
    (found,) = probe([runs.folder("TextRefinerCoOp")], max_images=3).runs
    assert [(half.images, half.of_images) for half in found.halves] == [(3, 12), (3, 12)]
    assert found.train_images == 3
    assert "3 of 12 images" in render(Probes(0, {}, None, [found]))


@pytest.mark.parametrize(
    ("method", "options", "reason"),
    [
        ("CoOp", (), "CoOp has no TextRefiner, so it has no cache. Give a run with a cache"),
        ("TextRefinerCoOp", ("TRAINER.TEXTREFINER.CACHE_SIZE", 0), "CACHE_SIZE 0"),
    ],
)
def test_runs_without_a_cache(
    method: str, options: tuple[Any, ...], reason: str, runs: Runs
) -> None:
    with pytest.raises(UsageError, match=reason):
        probe([runs.folder(method, *options)])


@pytest.mark.parametrize("status", ["running", "failed"])
def test_unfinished_runs(status: str, runs: Runs, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(runs.folder("TextRefinerCoOp"), folder)
    (folder / "run.json").write_text(json.dumps({"status": status}))
    with pytest.raises(UsageError, match=rf"has not finished \(run.json: {status}\)"):
        probe([folder])


def test_wrong_settings_are_one_sentence(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    folder = runs.folder("TextRefinerCoOp")
    assert script.main([str(folder), "--device", "tpu"]) == 2
    *warnings, error = capsys.readouterr().err.splitlines()
    assert error.startswith("error: device 'tpu' cannot be used")
    assert all(line.startswith("warning: ") for line in warnings)


def test_the_record_names_what_was_probed(runs: Runs) -> None:
    (found,) = probe([runs.folder("TextRefinerCoOp")]).runs
    assert isinstance(found, Probe)
    assert (found.method, found.dataset, found.seed) == ("TextRefinerCoOp", "Caltech101", 1)
    assert found.backbone == runs.world.clip
    assert found.halves[0].data["test"]["images"] == 12
    assert found.settings["OPTIM.LR"] == 0.02
    assert "SEED" not in found.settings
