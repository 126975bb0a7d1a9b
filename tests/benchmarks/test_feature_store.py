"""Measure a feature store on a toy CLIP: numbers, table and errors."""

import json

import pytest

from benchmarks import feature_store as bench
from trainers.feature_store.features import FeatureStore

pytestmark = pytest.mark.usefixtures("same_threads")


def run(folder, *options):
    code = bench.main(["--toy", "--threads", "1", "--output", str(folder), *options])
    (path,) = folder.glob("*-store-toy.json")
    return code, json.loads(path.read_text()), path.with_suffix(".md").read_text()


def test_phases_are_timed_separately_and_logits_compared(tmp_path):
    code, results, text = run(tmp_path, "--images", "8")
    found, beyond = results["store"], results["projected"]
    assert code == 0
    assert (found["images"], beyond["images"]) == (8, 24)
    assert found["ratio"] == pytest.approx(found["first"] / found["second"])
    line = found["first_fixed"] + 24 * found["first_per_image"]
    assert beyond["first"] == pytest.approx(line)
    assert "| 24 (first projected, second measured) |" in text
    assert "of 24 images was not run" in text
    assert text.count("yes, bit for bit") == 2


def test_full_measurement_has_no_projected_times(tmp_path):
    code, results, text = run(tmp_path, "--images", str(bench.TOY_MANY))
    assert code == 0
    assert "projected" not in results
    assert "first projected" not in text
    assert text.count("| 24 (measured) |") == 1
    assert "ratio at 24 with the building in both" in text


def test_different_logits_in_the_second_evaluation_raise(tmp_path, monkeypatch, capsys):
    original, seen = FeatureStore.features, set()

    def drifting(self, loader, local, half):
        tokens = original(self, loader, local, half)
        if len(loader.dataset) in seen:
            return tokens._replace(pooled=tokens.pooled.flip(1))
        seen.add(len(loader.dataset))
        return tokens

    monkeypatch.setattr(FeatureStore, "features", drifting)
    code, results, text = run(tmp_path, "--images", "4")
    assert code == 1
    assert not results["store"]["second_logits_equal_first"]
    assert "| NO |" in text
    assert "logits differ" in capsys.readouterr().err


def test_too_few_images_are_reported_in_one_sentence(capsys):
    with pytest.raises(SystemExit) as end:
        bench.main(["--images", "1"])
    assert end.value.code == 2
    assert "at least 4 are needed" in capsys.readouterr().err
