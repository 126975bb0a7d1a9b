"""scripts/report.py: sections, numbers and form of the page for every method."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from dassl.utils import UsageError
from scripts.page.render import TITLES
from scripts.probing.run import epoch_of_test, full_config, spread
from tests.scripts.page.conftest import ROOT, Make, Report, load_script
from tests.toy import toy_resnet_state_dict
from tests.trainers.classifier.runs import METHODS, Runs
from trainers.encode import unit

CACHE = {"cache", "reading", "refinement"}
MAX_BYTES = 1_500_000


def logits_of(trainer: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits and labels of the test images by the trainer's own inference."""
    infer = trainer.inference()
    with torch.no_grad():
        found = [(infer(batch["img"]), batch["label"]) for batch in trainer.test_loader]
    logits, labels = (torch.cat(parts) for parts in zip(*found, strict=True))
    return logits, labels


def omitted(run: dict[str, Any]) -> set[str]:
    return {name for name in TITLES if "omitted" in run[name]}


@pytest.mark.parametrize("method", METHODS)
def test_sections_and_numbers(method: str, runs: Runs, report: Make) -> None:
    made = report(runs.folder(method))
    (run,) = made.runs
    refined = method.startswith("TextRefiner")
    expected = set() if refined else set(CACHE)
    if method.endswith(("PromptKD", "MMRL", "TaskRes", "CLIPAdapter")):
        expected.add("words")  # the teacher's text features, and hand-written prompts
    assert omitted(run) == expected
    ids = [a["id"] for a in made.page.all("section")]
    assert ids == ["run", *TITLES]
    assert made.page.text.count("Omitted:") == len(expected)

    logits, labels = logits_of(runs.trainer(method))
    predicted = logits.argmax(dim=1)
    correct = int((predicted == labels).sum())
    assert run["accuracy"]["images"] == len(labels) == 12
    assert run["accuracy"]["correct"] == correct
    assert run["accuracy"]["accuracy"] == pytest.approx(100 * correct / 12)
    for label, row in enumerate(run["accuracy"]["classes"]):
        of_class = predicted[labels == label]
        assert (row["images"], row["correct"]) == (4, int((of_class == label).sum()))
    confidence = float(logits.softmax(dim=1).amax(dim=1).mean())
    assert run["calibration"]["mean_confidence"] == pytest.approx(confidence, abs=1e-5)
    losses = {row["tag"] for row in run["curves"]["curves"]}
    assert {"train/loss", "train/lr"} <= losses
    if refined:
        assert {"train/semantic", "train/regularizer"} <= losses
        assert run["cache"]["size"] == 25
        # 6 training images of 16 patches and a CLS token
        assert run["cache"]["tokens"] == sum(e["tokens"] for e in run["cache"]["entries"]) == 102
        as_trained = run["refinement"]["versions"][0]
        assert as_trained["accuracy"] == pytest.approx(run["accuracy"]["accuracy"])
        assert as_trained["changed"] == 0


@pytest.mark.parametrize("method", METHODS)
def test_the_page_is_complete_valid_and_small(method: str, runs: Runs, report: Make) -> None:
    check_form(report(runs.folder(method)))


def check_form(made: Report) -> None:
    """Check that the page needs no other file, and that everything on it can be addressed."""
    assert "http://" not in made.html
    assert "https://" not in made.html
    assert made.path.stat().st_size < MAX_BYTES
    page = made.page
    assert page.all("img")
    for image in page.all("img"):
        assert image["alt"]
        assert str(image["src"]).startswith("data:image/jpeg;base64,")
    for figure in page.all("svg"):
        assert figure["role"] == "img"
        assert figure["aria-label"]
    links = [str(a["href"]) for tag, a in page.elements if a.get("href")]
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    targets = {f"#{name}" for name in ids}
    assert set(links) <= targets | {"data:,"}
    assert {f"#{name}" for name in TITLES} <= set(links)
    for used in re.findall(r"url\((#[^)]+)\)", made.html):
        assert used in targets
    assert "nan" not in page.text.lower().split()
    for placeholder in ("#010101", "#020202", "#030303", "#040404", "#050505", "#060606"):
        assert placeholder not in made.html


def test_a_resnet_has_no_saliency(runs: Runs, report: Make, tmp_path: Path) -> None:
    weights = tmp_path / "resnet.pt"
    torch.save(toy_resnet_state_dict(), weights)
    options = ("MODEL.BACKBONE.NAME", str(weights), "INPUT.SIZE", (64, 64))
    (run,) = report(runs.folder("CoOp", *options)).runs
    assert omitted(run) == CACHE | {"saliency"}
    assert "ResNet" in run["saliency"]["omitted"]


def test_zero_shot(runs: Runs, zero_shot: Path, report: Make) -> None:
    made = report(zero_shot)
    check_form(made)
    (run,) = made.runs
    assert omitted(run) == CACHE | {"words", "curves"}
    assert "hand-written prompts" in run["words"]["omitted"]
    assert "not trained" in run["curves"]["omitted"]
    trainer = runs.world.build("ZeroshotCLIP", zero_shot)
    trainer.set_model_mode("eval")
    with torch.no_grad():
        correct = sum(
            int((trainer.model_inference(b["img"]).argmax(dim=1) == b["label"]).sum())
            for b in trainer.test_loader
        )
    assert run["accuracy"]["correct"] == correct


def test_two_runs_side_by_side(runs: Runs, report: Make) -> None:
    made = report(runs.folder("TextRefinerCoOp"), runs.folder("CoOp"))
    check_form(made)
    refined, plain = made.runs
    assert refined["facts"]["Method"] == "TextRefinerCoOp"
    assert plain["facts"]["Method"] == "CoOp"
    assert omitted(plain) - omitted(refined) == CACHE
    assert made.page.text.count("Omitted:") == len(CACHE)
    marked = re.findall(r'<tr class="differs"><th scope="row">(?:<code>)?([^<]+)', made.html)
    assert [name.removesuffix(" ≠") for name in marked] == ["Method", "Trained parameters"]


def test_settings_that_differ_are_marked(runs: Runs, report: Make) -> None:
    other = runs.folder("CoOp", "OPTIM.LR", 0.01)
    made = report(runs.folder("CoOp"), other)
    assert '<tr class="differs"><th scope="row"><code>OPTIM.LR</code>' in made.html
    assert [run["settings"]["OPTIM.LR"] for run in made.runs] == ["0.02", "0.01"]
    assert made.html.count('<tr class="differs">') == 1
    for label in ("CoOp, seed 1 (run 1)", "CoOp, seed 1 (run 2)"):
        assert made.html.count(f"<h3>{label}</h3>") == len(TITLES)


def test_a_test_folder_shows_the_tested_model_on_its_data(
    runs: Runs, report: Make, tmp_path: Path
) -> None:
    model = runs.folder("TextRefinerCoOp")
    cfg = full_config(model)
    cfg.MODEL_DIR = str(model)
    cfg.DATASET.SUBSAMPLE_CLASSES = "new"
    (tmp_path / "config.yaml").write_text(cfg.dump())
    (run,) = report(tmp_path).runs
    assert run["facts"]["Classes"] == "3 (the new classes)"
    assert run["facts"]["Model from"] == str(model)
    names = [row["class"] for row in run["accuracy"]["classes"]]
    assert names == runs.world.classnames[3:]
    assert "omitted" not in run["curves"]  # those of the training


def test_classes_that_are_tested_separately(runs: Runs, report: Make) -> None:
    options = ("DATASET.DISTILL_ON", "all", "DATASET.SUBSAMPLE_CLASSES", "all")
    folder = runs.folder("TextRefinerPromptKD", *options)
    (run,) = report(folder).runs
    logits, labels = logits_of(runs.trainer("TextRefinerPromptKD", *options))
    assert sorted(set(labels.tolist())) == [3, 4, 5]
    assert run["facts"]["Classes"] == "3 (the new classes)"
    assert run["accuracy"]["correct"] == int((logits.argmax(dim=1) == labels).sum())


def test_warnings_of_the_run_are_facts(runs: Runs, report: Make, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(runs.folder("CoOp"), folder)
    names = ("trainer", "dataset", "config", "classes", "backbone", "selection")
    result = dict.fromkeys(names, "x") | dict.fromkeys(("seed", "shots", "total", "correct"), 1)
    result |= {"source": None, "epoch": 2, "split": "test", "accuracy": 12.5, "settings": {}}
    result["warnings"] = ["first warning", "second warning"]
    (folder / "result.json").write_text(json.dumps(result))
    made = report(folder)
    assert made.runs[0]["facts"]["Warnings"] == "first warning; second warning"
    assert made.runs[0]["accuracy"]["recorded_accuracy"] == 12.5
    assert "12.5 % in result.json" in made.page.text


def test_class_specific_contexts_and_a_cache_that_is_off(runs: Runs, report: Make) -> None:
    options = ("TRAINER.COOP.CSC", True, "TRAINER.TEXTREFINER.CACHE_SIZE", 0)
    made = report(runs.folder("TextRefinerCoOp", *options))
    check_form(made)
    (run,) = made.runs
    assert omitted(run) == {"cache", "reading"}
    assert "CACHE_SIZE 0" in run["cache"]["omitted"]
    assert {row["class"] for row in run["words"]["tokens"]} == set(runs.world.classnames[:3])


def test_a_cache_of_one_entry(runs: Runs, report: Make) -> None:
    made = report(runs.folder("TextRefinerCoOp", "TRAINER.TEXTREFINER.CACHE_SIZE", 1))
    check_form(made)
    assert made.runs[0]["cache"]["entries"][0]["share"] == 1
    assert made.runs[0]["reading"]["class_dependent_share"] == pytest.approx(0, abs=1e-6)


def test_max_images_is_on_the_page(runs: Runs, report: Make) -> None:
    made = report(runs.folder("CoOp"), "--max-images", 6)
    (run,) = made.runs
    assert run["accuracy"]["images"] == 6
    assert [row["images"] for row in run["accuracy"]["classes"]] == [2, 2, 2]
    assert "6 of 12 images" in made.page.text
    assert "--max-images limits the images" in made.page.text


def test_spread() -> None:
    assert spread([*range(10)], 4) == [0, 3, 6, 9]
    assert spread([*range(3)], 5) == [0, 1, 2]
    assert spread([*range(3)], None) == [0, 1, 2]


def test_the_images_are_read_from_the_given_folder(
    runs: Runs, report: Make, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(runs.folder("CoOp"), folder)
    cfg = full_config(folder)
    cfg.DATASET.ROOT = str(tmp_path / "moved away")
    (folder / "config.yaml").write_text(cfg.dump())
    with pytest.raises(UsageError, match=r"moved away.*as --images"):
        load_script().write(load_script().build_parser().parse_args([str(folder)]))
    made = report(folder, "--images", runs.world.folder / "data")
    assert made.runs[0]["accuracy"]["images"] == 12


def test_other_data_than_those_of_the_run_are_refused(report: Make, tmp_path: Path) -> None:
    changed = Runs(tmp_path)
    folder = changed.folder("CoOp")
    split = tmp_path / "world/data/caltech-101/split_zhou_Caltech101.json"
    parts = json.loads(split.read_text())
    parts["test"] = parts["test"][1:]
    split.write_text(json.dumps(parts))
    args = load_script().build_parser().parse_args([str(folder)])
    with pytest.raises(UsageError, match=r"the test images were 12, now are 11.*as --images"):
        load_script().write(args)


def test_the_epoch_of_a_test_is_the_tested_one() -> None:
    assert epoch_of_test({"selection": "epoch 5", "epoch": 5}) == 5
    assert epoch_of_test({"selection": "last_step", "epoch": 20}) == 20
    assert epoch_of_test({"selection": "best_val", "epoch": 3}) is None
    assert epoch_of_test({}) is None


def test_read_statistics_equal_naive_ones(runs: Runs, report: Make) -> None:
    (run,) = report(runs.folder("TextRefinerCoOp")).runs
    model = runs.trainer("TextRefinerCoOp").model
    with torch.no_grad():
        text = model.learner.encode_text().double()
    entries = model.refiner.cache.entries.double()
    reads = []
    for c, row in enumerate(run["reading"]["classes"]):
        powers = [float(torch.dot(text[c], entry).exp()) for entry in entries]
        weights = [power / sum(powers) for power in powers]
        assert row["weights"] == pytest.approx(weights, rel=1e-4)
        entropy = -sum(w * float(torch.tensor(w).log()) for w in weights)
        assert row["entropy"] == pytest.approx(entropy, rel=1e-4)
        reads.append(sum(w * entry for w, entry in zip(weights, entries, strict=True)))
    mean = sum(reads) / len(reads)
    above = sum(float((read - mean).square().sum()) for read in reads) ** 0.5
    below = sum(float(read.square().sum()) for read in reads) ** 0.5
    assert run["reading"]["class_dependent_share"] == pytest.approx(above / below, rel=1e-3)


def test_changed_reads_equal_naive_ones(runs: Runs, report: Make) -> None:
    (run,) = report(runs.folder("TextRefinerCoCoOp")).runs
    trainer = runs.trainer("TextRefinerCoCoOp")
    model, right = trainer.model, {"plain": 0, "mean": 0, "zero": 0}
    weight = model.refiner.aggregate.weight.detach()
    with torch.no_grad():
        for batch in trainer.test_loader:
            features = unit(model.learner.encode_image(batch["img"], local=False).pooled)
            for feature, label in zip(features, batch["label"], strict=True):
                text = model.learner.encode_text(feature[None])[0]
                read = model.refiner.cache.read(text)
                reads = {"mean": read.mean(dim=0).repeat(3, 1), "zero": torch.zeros_like(read)}
                texts = {"plain": text} | {
                    name: text + 0.2 * torch.cat([text, value], dim=1) @ weight.T
                    for name, value in reads.items()
                }
                for name, value in texts.items():
                    right[name] += int((value @ feature).argmax() == label)
    found = {row["version"]: row["accuracy"] for row in run["refinement"]["versions"]}
    for name, correct in right.items():
        assert found[name] == pytest.approx(100 * correct / 12)


def test_the_command_writes_both_files(runs: Runs, tmp_path: Path) -> None:
    out = tmp_path / "new folder" / "page.html"
    done = subprocess.run(
        [sys.executable, "scripts/report.py", str(runs.folder("CoOp")), "--out", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n") == [str(out), str(out.with_suffix(".json")), ""]
    assert json.loads(out.with_suffix(".json").read_text())["runs"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["{run}", "--out", "page.txt"], "--out is 'page.txt': give a file name that ends with"),
        (["{run}", "--max-images", "0"], "--max-images must be at least 1, got 0"),
        (["{run}", "{run}"], "a RUN is given twice: give each folder once"),
        (["nowhere"], "there is no folder 'nowhere': give the output folder of a run"),
        (["{root}"], "has no config.yaml: give the output folder of a run of train.py"),
        (["{run}", "--device", "abacus"], "device 'abacus' cannot be used"),
    ],
)
def test_wrong_usage_is_one_sentence(
    words: list[str], sentence: str, runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"run": runs.folder("CoOp"), "root": runs.root}
    capsys.readouterr()
    assert load_script().main([word.format(**names) for word in words]) == 2
    # Before it there may be warnings about the toy data.
    *warnings, line = capsys.readouterr().err.splitlines()
    assert all(text.startswith("warning: ") for text in warnings)
    assert line.startswith("error: ")
    assert sentence in line


def test_class_names_are_text_and_never_markup(report: Make, tmp_path: Path) -> None:
    hostile = Runs(tmp_path)
    split = tmp_path / "world/data/caltech-101/split_zhou_Caltech101.json"
    name = "<img src=x onerror=alert(1)>"
    split.write_text(split.read_text().replace('"face"', json.dumps(name)))
    made = report(hostile.folder("TextRefinerCoOp"))
    check_form(made)
    assert made.runs[0]["accuracy"]["classes"][0]["class"] == name
    assert name in made.page.text
    assert not any("onerror" in a for _, a in made.page.elements)


def test_a_class_without_test_images(report: Make, tmp_path: Path) -> None:
    uneven = Runs(tmp_path)
    split = tmp_path / "world/data/caltech-101/split_zhou_Caltech101.json"
    parts = json.loads(split.read_text())
    parts["test"] = [row for row in parts["test"] if row[2] != "leopard"]
    split.write_text(json.dumps(parts))
    made = report(uneven.folder("TextRefinerCoOp"))
    check_form(made)
    rows = made.runs[0]["accuracy"]["classes"]
    assert [row["images"] for row in rows] == [4, 0, 4]
    assert rows[1]["accuracy"] is None
    tested = [row["accuracy"] for row in rows if row["images"]]
    assert made.runs[0]["accuracy"]["mean_class_accuracy"] == pytest.approx(sum(tested) / 2)


def test_a_broken_model_is_one_sentence(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(runs.folder("CoOp"), folder)
    (path,) = (folder / "prompt_learner").glob("model.pth.tar-2")
    content = torch.load(path, weights_only=False)
    content["state_dict"]["ctx"][:] = torch.nan
    torch.save(content, path)
    assert load_script().main([str(folder), "--out", str(tmp_path / "page.html")]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")
    assert not (tmp_path / "page.html").exists()


def test_jinja2_is_missing(
    runs: Runs, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert load_script().main([str(runs.folder("CoOp"))]) == 2
    assert "pip install -r requirements-report.txt" in capsys.readouterr().err
