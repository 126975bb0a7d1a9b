"""Mutated files of published numbers: loaded, or refused by a UsageError."""

from pathlib import Path

from dassl.utils import UsageError
from scripts.tables.published import load
from tests.fuzz.harness import fuzz

SEED = b"""
sources:
  a: {paper: "P (arXiv 1)", table: Table 1, url: https://example.org/a}
  b: {paper: Q, table: 'Table 2', url: https://example.org/b}
average_over: [ImageNet, Caltech101]
tables:
  - source: a
    protocol: base2new
    backbone: ViT-B/16
    images: labeled
    shots: 16
    rows:
      CoOp:
        average: [82.69, 63.22, 71.66]
        Caltech101: [98.0, 89.81, 93.73]
  - {source: b, protocol: zero-shot, backbone: RN50, images: none, shots: null,
     rows: {CLIP: {ImageNet: 66.7, EuroSAT: 47.5}}}
  - source: b
    protocol: cross-dataset
    backbone: ViT-B/16
    images: labeled
    shots: 16
    trained_on: ImageNet
    rows: {CoOp: {ImageNet: 71.51, Caltech101: 93.7}}
"""


def read(path: Path) -> None:
    for entry in load(path):
        entry.accuracies(["ImageNet", "Caltech101"])


def test_published_numbers(tmp_path: Path) -> None:
    found = fuzz(read, [SEED], tmp_path, "published.yaml", (UsageError,))
    assert found["read"]
    assert found["UsageError"]
