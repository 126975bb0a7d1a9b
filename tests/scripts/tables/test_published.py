"""Published numbers are consistent, and a malformed file is reported."""

from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, harmonic_mean

import pytest

import datasets
from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import UsageError
from scripts.tables.published import AVERAGE, SHOTS, Published, load
from tests.scripts.fake_project import ROOT

FILE = ROOT / "scripts" / "published.yaml"
ENTRIES = load(FILE)
# Papers average unrounded numbers: allow half of the last digit on each side.
ROUNDING = 0.0101


def triples() -> Iterator[tuple[Published, str]]:
    return ((e, name) for e in ENTRIES if e.protocol == "base2new" for name in e.results)


@pytest.mark.parametrize(
    ("entry", "name"), list(triples()), ids=lambda value: getattr(value, "method", value)
)
def test_h_is_the_harmonic_mean_of_base_and_new(entry: Published, name: str) -> None:
    base, new, h = entry.results[name]
    assert h == pytest.approx(harmonic_mean([base, new]), abs=ROUNDING)


def test_averages_match_the_datasets() -> None:
    """An average and its datasets come from different publications."""
    averages = {e.method: e for e in ENTRIES if e.protocol == "base2new" and AVERAGE in e.results}
    whole = [e for e in ENTRIES if e.protocol == "base2new" and set(e.results) == e.averaged]
    assert {e.method for e in whole} >= {"CoOp", "CoCoOp", "MaPLe", "PromptSRC", "PromptKD"}
    for entry in whole:
        for part in (0, 1):
            mean = fmean(numbers[part] for numbers in entry.results.values())
            expected = averages[entry.method].results[AVERAGE][part]
            assert mean == pytest.approx(expected, abs=ROUNDING), (entry.method, part)


def test_averages_over_targets_match_the_targets() -> None:
    checked = 0
    for entry in ENTRIES:
        if entry.protocol not in ("base2new", "few-shot") and AVERAGE in entry.results:
            targets = set(entry.results) - {AVERAGE, entry.trained_on}
            mean = fmean(entry.results[name][0] for name in targets)
            assert mean == pytest.approx(entry.results[AVERAGE][0], abs=ROUNDING), entry.method
            checked += 1
    assert checked == 10


def test_every_entry_has_a_source_with_url() -> None:
    assert all("https://" in entry.source for entry in ENTRIES)


def test_second_hand_numbers_are_marked() -> None:
    """A source is the repository of the method's authors, or it says by whom it is quoted."""
    own = {"MaPLe": "multimodal-prompt-learning", "PromptSRC": "muzairkhattak/PromptSRC"}
    own |= {"KgCoOp": "htyao89/KgCoOp"}
    for entry in ENTRIES:
        assert own.get(entry.method, "quoted by") in entry.source or "quoted by" in entry.source


def test_accuracy_grows_with_the_number_of_shots() -> None:
    """A row with two numbers exchanged fails."""
    rows = [e.results[AVERAGE] for e in ENTRIES if e.protocol == "few-shot"]
    assert len(rows) == 5
    assert all(row == tuple(sorted(row)) and len(row) == len(SHOTS) for row in rows)


def test_datasets_have_their_registered_names() -> None:
    assert datasets  # imported for its registrations
    named = {name for entry in ENTRIES for name in entry.results} - {AVERAGE}
    assert named <= set(DATASET_REGISTRY.registered_names())


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (
            "[82.69, 63.22, 71.66]",
            "[82.69, 63.22]",
            "expected 3 accuracies in percent, got [82",
        ),
        ("66.55", "166.55", "Expected float <= 100.0"),
        ("shots: 16", "shot: 16", "unknown field shot"),
        ("protocol: zero-shot", "protocol: fewshot", "Invalid enum value 'fewshot'"),
        ("source: protext_zero", "source: elsewhere", "unknown source 'elsewhere'"),
        ("average_over:", "average of: [", "is not valid YAML: while parsing"),
    ],
)
def test_malformed_file_is_reported_in_one_sentence(
    tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    path = tmp_path / "published.yaml"
    path.write_text(FILE.read_text().replace(old, new))
    with pytest.raises(UsageError) as error:
        load(path)
    assert sentence in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_file_is_reported() -> None:
    with pytest.raises(UsageError, match="cannot read the published numbers"):
        load(Path("nowhere.yaml"))
