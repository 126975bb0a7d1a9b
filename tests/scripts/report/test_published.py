"""The published numbers agree among themselves, and a file of another form is told."""

from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, harmonic_mean

import pytest

import datasets
from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import UsageError
from scripts.report.published import AVERAGE, Published, load
from tests.scripts.fake_project import ROOT

FILE = ROOT / "scripts" / "published.yaml"
ENTRIES = load(FILE)
# Papers average exact numbers and round at the end: half of the last digit on each side.
ROUNDING = 0.0101


def triples() -> Iterator[tuple[Published, str]]:
    return ((e, name) for e in ENTRIES if e.protocol == "base2new" for name in e.results)


@pytest.mark.parametrize(
    ("entry", "name"), list(triples()), ids=lambda value: getattr(value, "method", value)
)
def test_h_is_the_harmonic_mean_of_base_and_new(entry: Published, name: str) -> None:
    base, new, h = entry.results[name]
    assert h == pytest.approx(harmonic_mean([base, new]), abs=ROUNDING)


def test_averages_are_those_of_the_data_sets() -> None:
    """An average and its datasets were read in different places."""
    averages = {e.method: e for e in ENTRIES if e.protocol == "base2new" and AVERAGE in e.results}
    whole = [e for e in ENTRIES if e.protocol == "base2new" and set(e.results) == e.averaged]
    assert {e.method for e in whole} >= {"CoOp", "CoCoOp", "MaPLe", "PromptSRC", "PromptKD"}
    for entry in whole:
        for part in (0, 1):
            mean = fmean(numbers[part] for numbers in entry.results.values())
            expected = averages[entry.method].results[AVERAGE][part]
            assert mean == pytest.approx(expected, abs=ROUNDING), (entry.method, part)


def test_averages_over_targets_are_those_of_the_targets() -> None:
    checked = 0
    for entry in ENTRIES:
        if entry.protocol != "base2new" and AVERAGE in entry.results:
            targets = set(entry.results) - {AVERAGE, entry.trained_on}
            mean = fmean(entry.results[name][0] for name in targets)
            assert mean == pytest.approx(entry.results[AVERAGE][0], abs=ROUNDING), entry.method
            checked += 1
    assert checked == 12


def test_every_entry_has_a_source_with_an_address() -> None:
    assert all("https://" in entry.source for entry in ENTRIES)


def test_data_sets_are_called_as_they_are_registered() -> None:
    assert datasets  # imported for its registrations
    named = {name for entry in ENTRIES for name in entry.results} - {AVERAGE}
    assert named <= set(DATASET_REGISTRY.registered_names())


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("[82.69, 63.22, 71.66]", "[82.69, 63.22]", "should be 3 accuracies in percent"),
        ("66.55", "166.55", "should be 1 accuracies in percent"),
        ("shots: 16", "shot: 16", "each entry has the keys"),
        ("protocol: zero-shot", "protocol: fewshot", "KeyError: 'fewshot'"),
        ("source: protext_zero", "source: elsewhere", "KeyError: 'elsewhere'"),
        ("average_over:", "average of: [", "ParserError"),
    ],
)
def test_a_file_of_another_form_is_told_in_a_sentence(
    tmp_path: Path, old: str, new: str, sentence: str
) -> None:
    path = tmp_path / "published.yaml"
    path.write_text(FILE.read_text().replace(old, new))
    with pytest.raises(UsageError) as error:
        load(path)
    assert sentence in str(error.value)
    assert "scripts/published.yaml shows the form" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_told() -> None:
    with pytest.raises(UsageError, match="cannot read the published numbers"):
        load(Path("nowhere.yaml"))
