"""The figures in docs/speed.md, docs/results.md and README.md follow from what was recorded."""

import json
import re
from math import sqrt
from pathlib import Path
from statistics import fmean, harmonic_mean, stdev
from typing import Any

import pytest
from scipy.special import stdtrit

from benchmarks.world import class_names
from clip import tokenize
from scripts.ablation.learners import Learner
from scripts.ablation.rows import ROWS
from scripts.ablation.table import Ablation, render
from scripts.ablation.table import Row as AblationRow
from scripts.tables.statistics import Cell
from tests.document_text import ROOT, tables

RESULTS = ROOT / "benchmarks" / "results"
STEM = "amd-epyc-2-threads"
LAST_DIGIT = 0.0101  # of two rounded numbers and their rounded result


def read(name: str) -> str:
    return (ROOT / name).read_text()


def words(name: str) -> str:
    """Return a document on one line, without bold marks."""
    return re.sub(r"\s+", " ", read(name)).replace("**", "")


def bench(suffix: str = "") -> dict[str, Any]:
    return json.loads((RESULTS / f"{STEM}{suffix}.json").read_text())


def rows(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the rows of a benchmark by their names in the documents."""
    return {
        row["what"].replace("tower", "encoder"): row
        for row in results["rows"]
        if "naive measured" not in row["note"]
    }


def table(name: str, *header: str) -> dict[str, list[str]]:
    """Return the rows of a document's table whose header starts with ``header``, by first cell."""
    found = [rows for rows in tables(read(name)) if rows[0][: len(header)] == list(header)]
    assert len(found) == 1, header
    return {row[0]: row[1:] for row in found[0][1:]}


def short(value: float) -> set[str]:
    """Return a number with three digits; a recorded half may be rounded to either side."""
    return {f"{value * (1 + sign * 1e-9):.3g}" for sign in (-1, 1)}


def test_speed_table_is_that_of_the_benchmark() -> None:
    measured = rows(bench())
    written = table("docs/speed.md", "what", "naive s", "fast s")
    assert written.keys() == measured.keys()
    for what, (naive, fast, ratio, wanted, operations) in written.items():
        row = measured[what]
        assert naive in short(row["naive"]), what
        assert fast in short(row["fast"]), what
        assert ratio == f"{row['ratio']:.2f}", what
        assert wanted == (f"{row['wanted']:g}" if row["wanted"] else ""), what
        if operations:
            assert operations == f"{row['naive_gflop'] / row['fast_gflop']:.2f}", what


def test_readme_speed_table_is_that_of_the_benchmark() -> None:
    measured = rows(bench())
    names = {
        "CoOp + TextRefiner, training step (100 classes, batch 4)": "TextRefinerCoOp train step, "
        "100 classes, batch 4",
        "CoCoOp, training step (50 classes, batch 1)": "CoCoOp train step, 50 classes, batch 1",
        "PromptKD + TextRefiner, test batch (100 classes, batch 4)": "TextRefinerPromptKD test, "
        "100 classes, batch 4",
    }
    written = table("README.md", "what", "plain", "this project", "ratio")
    assert written.keys() == names.keys()
    for label, (plain, ours, ratio) in written.items():
        row = measured[names[label]]
        assert plain.removesuffix(" s") in short(row["naive"])
        assert ours.removesuffix(" s") in short(row["fast"])
        assert ratio == f"{row['ratio']:.1f}"


def test_table_of_every_method_is_that_of_the_benchmark() -> None:
    measured = rows(bench("-full"))
    written = table("docs/speed.md", "method")
    assert len(written) == 10
    for method, cells in written.items():
        batch = 1 if "CoCoOp" in method else 4
        places = [(kind, n) for kind in ("train step", "test") for n in (50, 100, 500, 1000)]
        names = [f"{method} {kind}, {n} classes, batch {batch}" for kind, n in places]
        assert cells == [f"{measured[name]['ratio']:.1f}" for name in names]


def test_sentences_about_the_benchmarks() -> None:
    text = words("docs/speed.md")
    plain, full, options = bench(), bench("-full"), bench("-options")
    measured, all_measured = rows(plain), rows(full)
    memory = {row["what"]: row["naive"] / row["fast"] for row in plain["memory"]}
    full_memory = {row["what"]: row["naive"] / row["fast"] for row in full["memory"]}

    def ratio(what: str) -> float:
        return all_measured[what]["ratio"]

    step = measured["TextRefinerPromptKD train step, 100 classes, batch 8"]
    compiled = next(row for row in options["rows"] if "train step" in row["what"])
    channels = next(row for row in options["rows"] if "channels-last" in row["what"])
    patches = next(row for row in options["rows"] if "patch embedding" in row["what"])
    checked = [row for row in full["rows"] if "CoOp test, 500 classes" in row["what"]][:2]
    assert [bool(re.search("measured", row["note"])) for row in checked] == [False, True]
    distilled, refined = (
        full_memory[f"{name}, 100 classes, batch 4"] for name in ("PromptKD", "TextRefinerPromptKD")
    )
    for sentence in (
        f"needs {memory['CoOp, 1000 classes, batch 4']:.1f} times less memory",
        f"torch {plain['machine']['torch'].split('+')[0]}, load "
        f"{plain['machine']['load_at_start']} at its start",
        f"of the {step['fast_gflop']:,.0f} GFLOP of a step with 8 images",
        f"The operations allow {step['naive_gflop'] / step['fast_gflop']:.2f}.",
        f"{compiled['ratio']:.2f} times faster after {compiled['first_step']:.0f} s of compiling",
        f"{channels['ratio']:.2f} times faster",
        f"is slower ({patches['ratio']:.2f})",
        f"same machine, {full['machine']['minutes']:.0f} minutes",
        f"gives {checked[0]['naive']:.1f} s and naive took {checked[1]['naive']:.1f} s",
        f"{ratio('TextRefinerCoOp train step, 100 classes, batch 4'):.2f} (CoOp + TextRefiner",
        f"{ratio('TextRefinerCoOp test, 100 classes, batch 8'):.2f} and, in bf16, ",
        f"{ratio('CoCoOp train step, 50 classes, batch 1'):.2f} (CoCoOp, 50 classes)",
        f"{ratio('text encoder, forward and backward, 100 classes'):.1f} (text encoder)",
        f"{full_memory['CoOp, 1000 classes, batch 4']:.1f} (memory at 1000 classes)",
        f"needs {distilled:.1f} times less memory than naive's, with TextRefiner {refined:.1f}",
    ):
        assert sentence in text, sentence


def test_cost_of_textrefiner_is_that_of_the_benchmark() -> None:
    text = words("docs/speed.md")
    found = bench("-refiner")["refiner"]
    steps = [
        f"{row['step_percent']:.1f} % ({row['step_quartiles'][0]:.1f} to "
        f"{row['step_quartiles'][1]:.1f})"
        for row in found
    ]
    share = [f"{row['step_percent_of_operations']:.1f} %" for row in found]
    test = [f"{row['test_percent']:.1f}" for row in found]
    for sentence in (
        f"it takes {steps[0]}, {steps[1]} and {steps[2]} of the time",
        f"TextRefiner has {share[0]} of the operations there ({share[1]} at 500 classes, "
        f"{share[2]} at 1000;",
        f"0 of the operations, and {test[0]}, {test[1]} and {test[2]} % of the time",
    ):
        assert sentence in text, sentence
    assert all(row["test_quartiles"][0] < 0 < row["test_quartiles"][1] for row in found)


def test_figures_of_the_feature_store() -> None:
    store = bench("-store")
    found, text = store["store"], words("docs/feature_store.md")
    tokens, dim = 197, 512
    numbers = tokens * dim + dim + tokens - 1
    size = numbers * 4
    for sentence in (
        f"Measured on {found['images']:,} images, two cores, load "
        f"{store['machine']['load_at_start']} at its start",
        f"{found['first']:,.0f} s for the first evaluation and {found['second']:.2f} s for the",
        f"{found['ratio']:,.0f} times faster ({found['ratio_with_build']:,.0f} times with",
        f"((1+P) d + d + P = {numbers:,} numbers)",
        f"takes N x {size / 1000:.0f} kB in float32",
        f"and N x {dim * 4 // 1000} kB without: {size * 1600 / 1e6:.0f} MB for 16 shots of 100",
    ):
        assert sentence in text, sentence
    minutes = f"takes {found['second']:.1f} s instead of {found['first'] / 60:.0f} minutes"
    assert minutes in words("docs/speed.md")


def test_lengths_of_prompts() -> None:
    """A prompt is SOS, 4 context words, the class name, a full stop and EOT."""
    names = class_names(100)
    lengths = (tokenize([f"a photo of a {name}." for name in names]).argmax(dim=-1) + 1).tolist()
    behind = [length - 5 for length in lengths]
    text = words("docs/speed.md")
    for sentence in (
        f"77 become {fmean(lengths):.2f} on average for 100 ImageNet names, and at most "
        f"{max(lengths)}",
        f"5 of those {fmean(lengths):.2f} positions",
        f"for 100 names {sum(behind)} tokens instead of {100 * max(behind)}: the longest name has "
        f"{max(behind)} tokens behind the context, the average {fmean(behind):.2f}",
    ):
        assert sentence in text, sentence


# docs/results.md

Cells = dict[str, list[float]]


def by_seed(number: int) -> dict[str, Cells]:
    """Return base, new and H by seed, for each method of the ``number``-th table by seed."""
    wanted = ["Method", "Config", "Seed", "base", "new", "H"]
    found = [rows for rows in tables(read("docs/results.md")) if rows[0] == wanted][number]
    methods: dict[str, Cells] = {}
    for method, _, _, *cells in found[1:]:
        row = methods.setdefault(method, {"base": [], "new": [], "H": []})
        for column, cell in zip(row, cells, strict=True):
            row[column].append(float(cell))
    return methods


def averages(document: str, number: int) -> dict[str, list[str]]:
    wanted = ["Method", "Config", "Selection", "base", "new", "H"]
    found = [rows for rows in tables(read(document)) if rows[0] == wanted][number]
    return {row[0]: row[3:] for row in found[1:]}


def check_cell(cell: str, mean: float, values: list[float]) -> None:
    """Check "91.00 ± 0.60", or "84.72" of one seed."""
    average, _, spread = cell.partition(" ± ")
    assert float(average) == pytest.approx(mean, abs=LAST_DIGIT)
    if len(values) > 1:
        assert float(spread) == pytest.approx(stdev(values), abs=LAST_DIGIT)
    else:
        assert not spread


@pytest.mark.parametrize("number", [0, 1], ids=["demo", "demo-all"])
def test_averages_follow_from_the_seeds(number: int) -> None:
    seeds, written = by_seed(number), averages("docs/results.md", number)
    assert seeds.keys() == written.keys()
    for method, row in seeds.items():
        for base, new, h in zip(*row.values(), strict=True):
            assert h == pytest.approx(harmonic_mean([base, new]), abs=LAST_DIGIT), method
        means = [fmean(row["base"]), fmean(row["new"])]
        means.append(harmonic_mean(means))
        for cell, mean, values in zip(written[method], means, row.values(), strict=True):
            check_cell(cell, mean, values)


def test_readme_has_the_table_of_the_demo() -> None:
    assert averages("README.md", 0) == averages("docs/results.md", 0)
    shared = averages("docs/results.md", 1)
    assert averages("README.md", 0).items() <= shared.items()


def test_gains_follow_from_the_tables() -> None:
    text, seeds = words("docs/results.md"), by_seed(0)
    gains = {
        column: [
            ours - plain
            for ours, plain in zip(
                seeds["CoOp + TextRefiner"][column], seeds["CoOp"][column], strict=True
            )
        ]
        for column in ("base", "new")
    }
    base, new = gains["base"], [f"{gain:.1f}" for gain in gains["new"]]
    assert (
        f"by {min(base):.1f} to {max(base):.1f} points on base classes, and by "
        f"{new[0]}, {new[1]} and {new[2]} points on new classes"
    ) in text
    every = {method: float(cells[2].split()[0]) for method, cells in averages(*MANY).items()}
    h = {name: every[f"{name} + TextRefiner"] - every[name] for name in LEARNERS}
    assert (
        f"by {h['CoOp']:.1f} points on CoOp, {h['CoCoOp']:.1f} on CoCoOp, {h['MaPLe']:.1f} on "
        f"MaPLe, {h['PromptSRC']:.1f} on PromptSRC. On PromptKD the average gain of "
        f"{h['PromptKD']:.1f} points"
    ) in text


MANY = ("docs/results.md", 1)
LEARNERS = ("CoOp", "CoCoOp", "MaPLe", "PromptSRC", "PromptKD")


def ablation_sections() -> list[str]:
    """Return the tables of each learner in the section on the ablation, as the tool prints them."""
    _, *parts = re.split(r"(?=^### TextRefiner on )", read("docs/results.md"), flags=re.MULTILINE)
    return [
        re.split(r"^(?:## |Accuracy in percent|Differences are paired)", part, flags=re.MULTILINE)[
            0
        ]
        for part in parts
    ]


def ablation_of(section: str) -> tuple[Ablation, list[int]]:
    """Return the rows of a section and their seeds, from its table by seed."""
    trainer = re.findall(r"^### TextRefiner on (\w+),", section)[0]
    learner = Learner(trainer, "", "", "")
    names = {row.label.format(learner=trainer): name for name, row in ROWS.items()}
    (lines,) = [rows for rows in tables(section) if rows[0][:2] == ["Variant", "Seed"]]
    values: dict[str, dict[str, dict[int, float]]] = {}
    for label, seed, base, new, h in lines[1:]:
        cells = values.setdefault(names[label], {"base": {}, "new": {}})
        cells["base"][int(seed)], cells["new"][int(seed)] = float(base), float(new)
        assert float(h) == pytest.approx(harmonic_mean([float(base), float(new)]), abs=LAST_DIGIT)
    rows = {
        name: AblationRow(ROWS[name], Cell(cells["base"]), Cell(cells["new"]))
        for name, cells in values.items()
    }
    return Ablation(learner, rows), sorted(next(iter(values.values()))["base"])


def comparable(section: str) -> list[str]:
    """Return the lines of the table of averages, without the selection, and of the answers."""
    (averaged,) = [rows for rows in tables(section) if rows[0][:2] == ["Variant", "base"]]
    lines = [" | ".join(row[:5]) for row in averaged[1:]]
    return lines + [line for line in section.splitlines() if re.match(r"- (?!\*\*)", line)]


def test_ablations_follow_from_their_values_by_seed() -> None:
    """Averages, paired differences, intervals and sign tests, from the rounded values by seed."""
    number = re.compile(r"-?\d+(?:\.\d+)?")
    assert ablation_sections()
    for section in ablation_sections():
        ablation, seeds = ablation_of(section)
        count = len(seeds)
        # Differences off by 0.01 move their deviation by up to 0.01 sqrt(n / (n - 1)).
        tolerance = LAST_DIGIT * (1 + float(stdtrit(count - 1, 0.975)) / sqrt(count - 1))
        pairs = zip(comparable(section), comparable(render([ablation], seeds)), strict=True)
        for written, expected in pairs:
            assert number.sub("0", written) == number.sub("0", expected)
            found, wanted = (list(map(float, number.findall(line))) for line in (written, expected))
            assert found == pytest.approx(wanted, abs=tolerance), written


def test_ablation_on_coop_repeats_the_demo() -> None:
    found = [ablation_of(section) for section in ablation_sections()]
    (coop,) = [ablation for ablation, _ in found if ablation.learner.trainer == "CoOp"]
    demo = by_seed(0)
    for name, method in (
        ("plain", "CoOp"),
        ("full", "CoOp + TextRefiner"),
        ("aggregation-only", "aggregation only (no cache, no local loss)"),
    ):
        row = coop.rows[name]
        for seed in (1, 2, 3):
            assert row.base.values[seed] == demo[method]["base"][seed - 1]
            assert row.new.values[seed] == demo[method]["new"][seed - 1]


def test_means_of_the_probe_follow_from_its_runs() -> None:
    text = read("docs/results.md").split("## What the cache does on Critters")[1].split("\n## ")[0]
    number, checked = re.compile(r"[+-]?\d+(?:\.(\d+))?"), 0
    for head, *lines in tables(text):
        runs: dict[str, list[list[str]]] = {}  # by epoch, or by "" in tables without it
        for label, *cells in lines:
            epoch = cells.pop(0) if head[1] == "epoch" else ""
            if "mean ± std" not in label:
                runs.setdefault(epoch, []).append(cells)
                continue
            for mean, *values in zip(cells, *runs.pop(epoch), strict=True):
                singles = [[float(word[0]) for word in number.finditer(v)] for v in values]
                for k, column in enumerate(zip(*singles, strict=True)):
                    average, spread = list(number.finditer(mean))[2 * k : 2 * k + 2]
                    last_digit = 1.01 * 10.0 ** -len(average[1] or "")
                    assert float(average[0]) == pytest.approx(fmean(column), abs=last_digit)
                    assert float(spread[0]) == pytest.approx(stdev(column), abs=last_digit)
                    checked += 1
        assert not runs
    assert checked > 40


def test_probed_accuracies_are_those_of_the_ablation() -> None:
    text = read("docs/results.md").split("## What the cache does on Critters")[1].split("\n## ")[0]
    halves = [lines for lines in tables(text) if lines[0][1] == "T' as trained"]
    wanted = ["Variant", "Seed", "base", "new", "H"]
    ablation = next(rows for rows in tables(read("docs/results.md")) if rows[0] == wanted)
    full = [row for row in ablation if row[0].startswith("full")]
    assert [row[1] for row in halves[0][1:-1]] == [row[2] for row in full]
    assert [row[1] for row in halves[1][1:-1]] == [row[3] for row in full]


def test_versions_are_those_of_the_recorded_runs() -> None:
    """The CLIP of the demo and the benchmarks were made with one version of torch."""
    recorded = {bench(suffix)["machine"]["torch"] for suffix in ("", "-full", "-options", "-store")}
    file = ROOT / "assets" / "critters" / "critters-vit-t.json"
    recorded.add(json.loads(file.read_text())["versions"]["torch"])
    (version,) = {torch.split("+")[0] for torch in recorded}
    for name in ("docs/results.md", "docs/speed.md", "docs/install.md"):
        assert f"torch {version}" in words(name)


def test_accuracies_of_the_demos_clip_models() -> None:
    folder = ROOT / "assets" / "critters"
    small, large = (
        json.loads(Path(folder / f"critters-vit-{size}.json").read_text())["zero_shot_percent"]
        for size in ("t", "s")
    )
    assert f"{large['all']} % against {small['all']} %" in words("docs/datasets.md")
