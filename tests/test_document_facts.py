"""Numbers, defaults, names and versions in the documents are those of the code."""

import re
from fractions import Fraction
from functools import cache
from typing import Any

import pytest
from torch import nn

import datasets
import trainers
from clip.openai import MODELS
from dassl.config import get_cfg_default
from dassl.config.flat import read_config
from dassl.config.table import leaves
from dassl.data.data_manager import CHECKED_IMAGES
from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY
from dassl.engine.run_records import IN_USE
from dassl.utils import failures
from datasets.critters_world.species import GENERA, SPECIES
from scripts import ablate, reproduce, sweep
from scripts.ablation.rows import ROWS
from scripts.runner.job import Workspace
from scripts.runner.preflight import FILES
from scripts.runner.protocol_table import ProtocolTable
from scripts.tables.plot import is_curve
from scripts.tables.tables import Table
from tests.document_text import DOCUMENTS, ROOT, inline_code, tables
from tests.replay_kinds import CoOpKind
from tests.replay_precision import BOUNDS
from trainers.promptsrc import TEMPLATES
from trainers.refiner import FeatureAlignment, TextRefiner

NAMES = [path.relative_to(ROOT).as_posix() for path in DOCUMENTS]
PROTOCOLS = ProtocolTable.load(ROOT / "configs" / "protocols.yaml")
CONFIGS = ROOT / "configs" / "trainers"


def words(name: str) -> str:
    """Return a document on one line."""
    return re.sub(r"\s+", " ", (ROOT / name).read_text())


def table(name: str, first: str) -> list[list[str]]:
    """Return the rows below the header that begins with ``first``."""
    (found,) = [rows for rows in tables((ROOT / name).read_text()) if rows[0][0].startswith(first)]
    return found[1:]


def defaults() -> dict[str, Any]:
    cfg = get_cfg_default()
    trainers.extend_cfg(cfg)
    return dict(leaves(cfg))


def parameters(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


# Settings


def test_settings_of_the_refiner_have_their_documented_defaults() -> None:
    known = defaults()
    for key, default, _ in table("docs/method.md", "key"):
        value, _, own = default.partition(" (PromptKD: ")
        assert str(known[f"TRAINER.TEXTREFINER.{key}"]) == value, key
        if own:
            name, _, share = own.partition(", ")
            assert f"{known[name]} of KD_WEIGHT)" == share
    controls = table("docs/method.md", "control")
    for key, default, _ in controls:
        assert str(known[f"TRAINER.TEXTREFINER.{key}"]) == default, key
    keys = [row[0] for row in (*table("docs/method.md", "key"), *controls)]
    section = "TRAINER.TEXTREFINER."
    assert keys == [key.removeprefix(section) for key in known if key.startswith(section)]


def test_weights_in_formulas_are_the_defaults() -> None:
    """Such as "LOCAL_WEIGHT = 1/50": the value of a key with this name."""
    known = defaults()
    found = re.findall(r"\b([A-Z_]+_WEIGHT) = (\d+(?:/\d+)?)\b", words("docs/method.md"))
    assert len(found) == 4
    for name, value in found:
        values = {known[key] for key in known if key.rpartition(".")[2] == name}
        assert float(Fraction(value)) in values, name


def test_options_of_a_sweep_have_their_documented_defaults() -> None:
    args = vars(sweep.parse(["--trainers", "coop", "--datasets", "dtd"]))
    found = [
        (flag, value)
        for row in table("docs/scale.md", "option")
        for flag, value in re.findall(r"`--([\w-]+)`[^`(]*\((\d+)", row[2])
    ]
    assert {flag for flag, _ in found} >= {"workers", "cpus", "retries", "time", "array"}
    for flag, value in found:
        assert args[flag.replace("-", "_")] in (int(value), None), flag


# Protocols


def test_settings_of_each_method_are_those_of_the_protocols() -> None:
    """Configs exist for plain and refined trainers, with the epochs that are named."""
    checked = 0
    for methods, *cells in table("docs/protocols.md", "method, plain"):
        for method in re.findall(r"`([\w-]+)`", methods.partition("(")[0]):
            if method not in PROTOCOLS.methods:  # zeroshot.sh
                continue
            for config, epochs in re.findall(r"`([\w+]+)`, (\d+)", " ".join(cells)):
                kinds = PROTOCOLS.protocols(method)
                protocol = "base2new" if "base2new" in kinds else "fewshot"
                setting = PROTOCOLS.setting(method, protocol, "dtd", 16)
                folder = setting.config_path.rpartition("/")[0]
                read = read_config(CONFIGS / folder / f"{config}.yaml")
                assert read["OPTIM.MAX_EPOCH"] == int(epochs), (method, config)
                checked += 1
            if "teacher" in methods:
                continue
            for protocol in ("base2new", "xd", "fewshot"):
                if protocol in PROTOCOLS.protocols(method):
                    shots = 16 if protocol == "fewshot" else None
                    config = PROTOCOLS.setting(method, protocol, "dtd", shots).config_path
                    assert f"`{config.rpartition('/')[2]}`" in " ".join(cells), (method, protocol)
    assert checked > 20


def test_every_section_with_a_precision_is_listed() -> None:
    listed = re.search(r"`TRAINER\.<LEARNER>\.PREC` \(([^)]*)\)", words("docs/precision.md"))
    assert listed is not None
    sections = [key.split(".")[1] for key in defaults() if re.fullmatch(r"TRAINER\.\w+\.PREC", key)]
    assert sorted(listed[1].split(", ")) == sorted(sections)


def test_every_method_is_listed() -> None:
    assert {code for code in inline_code(words("docs/protocols.md")) if "-" not in code} >= {
        method for method in PROTOCOLS.methods if "-" not in method
    }
    for method in PROTOCOLS.methods:
        assert f"`{method}`" in words("docs/protocols.md"), method


def test_number_of_jobs_of_the_reproduction(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scripts.runner.plan.read_config", cache(read_config))  # half the time
    args = reproduce.parse([])
    workspace = Workspace.from_env({"DATA": str(tmp_path), "OUTPUT": str(tmp_path)})
    count = len(reproduce.unique(reproduce.make_parts(args, workspace)))
    assert (
        f"This runs {count:,} jobs: {len(reproduce.DATASETS)} datasets with seeds 1, 2 and 3"
        in (words("docs/reproduce.md"))
    )


def test_rows_of_the_ablation() -> None:
    assert f"# on CoOp: {len(ROWS)} rows" in (ablate.__doc__ or "")
    values: dict[str, list[float]] = {}
    for variant in ROWS.values():
        for key, value in variant.settings.items():
            if value[0].isdigit():
                values.setdefault(key, []).append(float(value))
    text = words("docs/reproduce.md")
    for label, key in (
        ("cache size", "CACHE_SIZE"),
        ("alpha", "ALPHA"),
        ("momentum", "MOMENTUM"),
        ("top-k", "TOPK"),
        ("rank", "RANK"),
        ("read scale", "READ_SCALE"),
    ):
        # Rows with names of their own: alpha 0, and momentum 1, a cache that keeps its start.
        named = {"ALPHA": 0.0, "MOMENTUM": 1.0}.get(key)
        tried = [value for value in values[key] if value != named]
        assert f"{label} {min(tried):g} to {max(tried):g}" in text


def test_curves_are_drawn_from_three_numbers_of_shots_on() -> None:
    def drawn(count: int) -> bool:
        columns = [f"{2**n} shots" for n in range(1, count + 1)]
        return is_curve(Table("", {}, columns, [], []))

    assert [drawn(count) for count in (2, 3)] == [False, True]
    assert "from three shot counts on with few-shot curves" in words("docs/protocols.md")


# Names


def test_trainers_are_the_registered_ones() -> None:
    (line,) = re.findall(r"- \*\*Trainers\*\*: (.*?)\. - ", words("docs/coop_users.md"))
    listed = re.findall(r"`(\w+)`", line)
    ours = [
        name
        for name in TRAINER_REGISTRY.registered_names()
        if TRAINER_REGISTRY.get(name).__module__.startswith("trainers.")
    ]
    assert sorted(listed) == sorted(ours)


def test_datasets_are_the_registered_ones() -> None:
    assert datasets
    listed = {row[0]: row[1] for row in table("docs/datasets.md", "config") if len(row) == 4}
    ours = [
        name
        for name in DATASET_REGISTRY.registered_names()
        if DATASET_REGISTRY.get(name).__module__.startswith("datasets.")
    ]
    assert {*listed.values(), "ImageFolder"} == set(ours)  # tests and benchmarks register others
    for config, kind in listed.items():
        read = read_config(ROOT / "configs" / "datasets" / f"{config}.yaml")
        assert read["DATASET.NAME"] == kind


def test_files_of_the_datasets_are_listed() -> None:
    """What the scripts look for below $DATA is in the table."""
    rows = [row for row in table("docs/datasets.md", "config") if len(row) == 4]
    assert {row[1] for row in rows} >= FILES.keys()
    for _, kind, images, split in rows:
        text = _expanded(images + split)
        entry: Any = DATASET_REGISTRY.get(kind)
        for file in (entry.image_dir, entry.split_file, *FILES.get(kind, ())):
            if file and not kind.startswith("Critters"):
                place = f"{entry.dataset_dir}/{file}".rstrip("/.")
                assert place in text or f"`{file}`" in text, (kind, file)


def _expanded(text: str) -> str:
    """Write a/{b,c} as a/b and a/c."""
    return re.sub(
        r"`([^`]*)\{([^}]*)\}([^`]*)`",
        lambda found: " ".join(f"`{found[1]}{word}{found[3]}`" for word in found[2].split(",")),
        text,
    )


@pytest.mark.parametrize("name", NAMES)
def test_backbones_exist(name: str) -> None:
    """A quoted name such as "ViT-B/16" is one of OpenAI's."""
    for backbone in re.findall(r'"((?:ViT-[BL]/|RN)\d+[\w@]*)"', words(name)):
        assert backbone in MODELS, backbone


def test_files_in_the_architectures_tree_exist() -> None:
    tree = (ROOT / "docs" / "architecture.md").read_text().split("```")[3]
    files = {path.name for path in ROOT.rglob("*.py") if ".venv" not in path.parts}
    assert set(re.findall(r"\b[\w]+\.py\b", tree)) <= files


def test_exit_codes() -> None:
    text = words("docs/architecture.md")
    assert f"exit code {IN_USE}" in text
    assert f"exit code {failures.USAGE}" in text
    assert f"exit code {failures.MACHINE}" in text


# Sizes


def test_numbers_of_trained_parameters() -> None:
    """CoOp trains "a photo of a"; PromptKD's student 4 deep prompts of 768 in 9 blocks as well."""
    text = words("docs/scale.md")
    assert f"{4 * 512:,} numbers for CoOp" in text
    student = 9 * 4 * 768 + parameters(FeatureAlignment(512, 768), TextRefiner(512, 768))
    assert f"{student / 1e6:.1f} million for TextRefiner on PromptKD" in text
    demo = 4 * 64 + parameters(TextRefiner(128, 128, cache_size=0))
    assert f'"trained_parameters": {demo},' in words("docs/checkpoints.md")


def test_critters() -> None:
    text = words("docs/datasets.md")
    classes = DATASET_REGISTRY.get("Critters").counts.classes
    variant = DATASET_REGISTRY.get("CrittersSketch").counts
    dark = DATASET_REGISTRY.get("CrittersDark").counts
    for sentence in (
        f"{len(SPECIES)} species of {len(GENERA)} genera",
        f"Of the {classes} downstream species {classes // 2} are base and {classes // 2} are new",
        f"{variant.test // variant.classes} test images per class and no training images",
        f"every second species ({dark.classes}, three of each genus)",
        f"up to {CHECKED_IMAGES:,} of its training, validation and test images",
    ):
        assert sentence in text, sentence
    counts = DATASET_REGISTRY.get("Critters").counts
    assert (
        f"Critters ({classes // 2} base and {classes // 2} new classes, "
        f"{counts.test // classes} test images each)"
    ) in words("docs/results.md")


def test_number_of_templates() -> None:
    assert f"the first {TEMPLATES} of open_clip's" in words("docs/method.md")
    assert f"({TEMPLATES} templates per class" in words("docs/speed.md")


def test_limits_of_the_replay() -> None:
    limits = CoOpKind.limits
    for name, deviation, limit in table("docs/results.md", "quantity"):
        assert limit == f"{limits[name]:.1e}", name
        assert float(deviation) < float(limit)


def test_bounds_of_half_precision() -> None:
    bounds = [bound for trace in ("coop", "promptkd") for _, bound in BOUNDS[trace]]
    rows = table("docs/precision.md", "recorded run")
    assert [float(row[-1]) for row in rows] == bounds
    for *measured, bound in (row[1:] for row in rows):
        assert max(map(float, measured)) < float(bound)


# Versions and times


def test_oldest_versions_are_the_lower_bounds() -> None:
    required: dict[str, str] = {}
    for file in ROOT.glob("requirements*.txt"):
        if file.name in ("requirements.txt", "requirements-sweep.txt", "requirements-dev.txt"):
            required.update(re.findall(r"^([\w-]+)>=([\d.]+)", file.read_text(), re.MULTILINE))
    listed: dict[str, str] = {}
    for packages, oldest, _ in table("docs/install.md", "")[2:]:
        oldest = oldest.partition(" (")[0]
        listed.update(zip(packages.split(", "), oldest.split(", "), strict=True))
    assert listed == {name: v for name, v in required.items() if name not in ("ruff", "mypy")}
    text = words("docs/install.md")
    for tool in ("ruff", "mypy"):
        assert f"{tool} {required[tool]} and " in text


def test_python_version() -> None:
    (version,) = re.findall(
        r'requires-python = ">=([\d.]+)"', (ROOT / "pyproject.toml").read_text()
    )
    assert f"Python {version} or newer" in words("docs/install.md")
    assert f"Python {version} or newer" in words("README.md")


@pytest.mark.parametrize("target", ["demo", "demo-all"])
def test_one_time_is_named_for_the_demo(target: str) -> None:
    (readme,) = re.findall(rf"make {target} .*?(\d+) minutes", (ROOT / "README.md").read_text())
    (makefile,) = re.findall(
        rf"#   make {target} .*?(\d+) minutes", (ROOT / "Makefile").read_text()
    )
    script = (ROOT / "scripts" / "demo.py").read_text()
    command = r"demo.py --all" if target == "demo-all" else r"demo.py  "
    (usage,) = re.findall(rf"{command} .*?(\d+) minutes", script)
    assert readme == makefile == usage
