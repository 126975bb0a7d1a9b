"""trainers/ uses only what the original dassl and clip have, so that it runs in a CoOp checkout."""

import ast
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "trainers"
FILES = sorted(FOLDER.rglob("*.py"))
# Names in these modules of Dassl.pytorch 0.6.3 and OpenAI's clip.
ORIGINALS = {
    "dassl.config": {"get_cfg_default"},
    "dassl.data": {"DatasetWrapper"},
    "dassl.data.transforms": {"build_transform"},
    "dassl.engine": {"TRAINER_REGISTRY", "TrainerX", "TrainerXU", "SimpleTrainer", "build_trainer"},
    "dassl.metrics": {"compute_accuracy"},
    "dassl.optim": {"build_optimizer", "build_lr_scheduler"},
    "dassl.utils": {
        *("load_checkpoint", "load_pretrained_weights", "read_image", "read_json", "write_json"),
    },
    "clip": {"clip"},
    "clip.model": {"convert_weights", "build_model", "CLIP"},
    "clip.simple_tokenizer": {"SimpleTokenizer"},
}
CLIP = {"load", "tokenize", "available_models"}
LIBRARIES = {"torch", "tqdm", "yacs", "open_clip", "dassl", "clip", "PIL"}
LIBRARIES |= {"filelock", "msgspec", "safetensors"}


def imports(tree):
    """Return (module, name) of every absolute import, including those in function bodies."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)


@pytest.mark.parametrize("file", FILES, ids=lambda p: str(p.relative_to(FOLDER)))
def test_imports_exist_in_the_originals(file):
    tree = ast.parse(file.read_text())
    for module, name in imports(tree):
        top = module.split(".")[0]
        assert top in LIBRARIES or top in sys.stdlib_module_names, f"{file.name} needs {module}"
        if top in ("dassl", "clip"):
            assert name in ORIGINALS.get(module, ()), f"{file.name} takes {name} from {module}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "clip":
            assert node.attr in CLIP, f"{file.name} uses clip.{node.attr}"


def test_refiner_imports_only_torch():
    tree = ast.parse((FOLDER / "refiner.py").read_text())
    assert {module.split(".")[0] for module, _ in imports(tree)} == {"torch"}
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level]
