"""The table of settings: it is complete, refuses wrong values, and is printed as a document."""

import math
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec
import pytest
from yacs.config import CfgNode

import trainers
from dassl.config import get_cfg_default, merge_opts
from dassl.config.defaults import _TRAINERS_OF_DASSL
from dassl.config.table import ROWS, SAMPLERS, TRANSFORMS, check_rows, expand_paths, leaves
from dassl.data.samplers import build_sampler
from dassl.data.transforms import INTERPOLATION_MODES
from dassl.data.transforms.transforms import AVAI_CHOICES
from dassl.engine.selection import check_split
from dassl.engine.settings import check_settings
from dassl.optim.optimizer import OPTIMIZERS
from dassl.utils import UsageError
from scripts import list_settings
from trainers.rows import ROWS as TRAINERS_ROWS
from trainers.settings import SettingsError, check_inputs
from trainers.settings import check_rows as check_trainers_rows

ALL = {**ROWS, **TRAINERS_ROWS}
DOCUMENT = Path(__file__).parents[2] / "docs" / "settings.md"


def config() -> CfgNode:
    cfg = get_cfg_default()
    trainers.extend_cfg(cfg)
    return cfg


def assign(cfg: CfgNode, key: str, value: Any) -> None:
    """Set a key without the checks of merging, as code that imports this project can."""
    *sections, leaf = key.split(".")
    for section in sections:
        cfg = cfg[section]
    cfg[leaf] = value


def wrong_values(kind: Any) -> list[Any]:
    """Return values that a row's type must refuse: beyond each bound, not finite, other types."""
    info = msgspec.inspect.type_info(kind)
    if isinstance(info, msgspec.inspect.UnionType):
        number = next(t for t in info.types if not isinstance(t, msgspec.inspect.NoneType))
        return [value for value in wrong_values_of(number) if value is not None]
    return wrong_values_of(info)


def wrong_values_of(info: Any) -> list[Any]:
    bounds = [getattr(info, name, None) for name in ("ge", "gt", "le", "lt")]
    low = bounds[0] if bounds[0] is not None else bounds[1]
    high = bounds[2] if bounds[2] is not None else bounds[3]
    if isinstance(info, msgspec.inspect.IntType):
        return [low - 1, high + 1, True, 0.5, "1", None, math.nan]
    if isinstance(info, msgspec.inspect.FloatType):
        edges = [bound for bound in (bounds[1], bounds[3]) if bound is not None]
        return [low - 1, high + 1, *edges, math.nan, math.inf, -math.inf, True, "1", None]
    if isinstance(info, msgspec.inspect.BoolType):
        return [0, 1, "True", None]
    if isinstance(info, msgspec.inspect.StrType):
        return [0, True, None, ["a"]]
    if isinstance(info, msgspec.inspect.LiteralType):
        return ["no-such-name", 0, None, ""] if "" not in info.values else ["no-such-name", 0]
    if isinstance(info, msgspec.inspect.TupleType):
        wrong = [[item] for item in wrong_values_of(info.item_types[0])]
        good = [1] * len(info.item_types)
        return [(), [1], [*good, 1], "1", *(item + good[1:] for item in wrong)]
    if isinstance(info, msgspec.inspect.ListType):
        assert info.min_length == 1
        return [(), None, 3.5, "1", *([item] for item in wrong_values_of(info.item_type))]
    assert isinstance(info, msgspec.inspect.VarTupleType)
    return [3.5, True, *([item] for item in wrong_values_of(info.item_type))]


def test_every_key_of_the_config_is_in_the_table() -> None:
    listed = {key for key, _ in leaves(config())}
    out_of_scope = {key for key in listed if _is_dassls(key)}
    assert listed - out_of_scope == ALL.keys()
    text = DOCUMENT.read_text()
    assert all(f"`{key.rpartition('.')[2]}`" in text for key in listed)


def _is_dassls(key: str) -> bool:
    section, _, rest = key.partition(".")
    return section == "TRAINER" and rest.split(".")[0] in _TRAINERS_OF_DASSL


@pytest.mark.parametrize("key", ALL)
def test_every_range_can_fail(key: str) -> None:
    values = wrong_values(ALL[key].kind)
    if key in ("OPTIM.NEW_LAYERS", "OPTIM.STEPSIZE"):  # a list, or one of its items
        values = [3.5, [None], [True]]
    assert values
    for value in values:
        cfg = config()
        assign(cfg, key, value)
        check = check_rows if key in ROWS else check_trainers_rows
        with pytest.raises((UsageError, SettingsError)) as error:
            check(cfg)
        assert key in str(error.value), value
        assert "\n" not in str(error.value)


def test_defaults_are_allowed() -> None:
    check_settings(config())
    check_trainers_rows(config())


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"OPTIM.WARMUP_EPOCH": 11}, "OPTIM.WARMUP_EPOCH 11 is more than OPTIM.MAX_EPOCH 10"),
        ({"INPUT.RRCROP_SCALE": (0.9, 0.5)}, "INPUT.RRCROP_SCALE"),
        ({"OPTIM.NAME": "sgd", "OPTIM.SGD_NESTEROV": True, "OPTIM.SGD_DAMPNING": 0.5}, "NESTEROV"),
        ({"OPTIM.NAME": "sgd", "OPTIM.SGD_NESTEROV": True, "OPTIM.MOMENTUM": 0.0}, "MOMENTUM"),
        ({"TRAINER.MME.LMDA": math.nan}, "TRAINER.MME.LMDA must be a finite number"),
        ({"OUTPUT_DIR": "a\0b"}, "OUTPUT_DIR must be text without NUL"),
    ],
)
def test_contradictions_are_refused(values: dict[str, Any], part: str) -> None:
    cfg = config()
    for key, value in values.items():
        assign(cfg, key, value)
    with pytest.raises(UsageError) as error:
        check_settings(cfg)
    assert part in str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "part"),
    [
        ("INPUT.NO_TRANSFORM", True, "INPUT.NO_TRANSFORM True"),
        ("DATALOADER.K_TRANSFORMS", 3, "DATALOADER.K_TRANSFORMS is 3"),
        ("DATALOADER.FEATURE_STORE", __file__, "is a file: choose a folder"),
        ("DATALOADER.FEATURE_STORE", f"{__file__}/below", "is a file: choose a folder"),
    ],
)
def test_inputs_that_no_trainer_can_use_are_refused(key: str, value: Any, part: str) -> None:
    cfg = config()
    check_inputs(cfg)
    assign(cfg, key, value)
    with pytest.raises(SettingsError) as error:
        check_inputs(cfg)
    assert part in str(error.value)


def test_val_split_is_needed_by_test_split_val() -> None:
    class Trainer:
        cfg = config()
        val_loader: Any = None

    check_split(Trainer)
    Trainer.cfg.TEST.SPLIT = "val"
    with pytest.raises(UsageError, match=r"TEST\.SPLIT is val, but the dataset has no val split"):
        check_split(Trainer)
    Trainer.val_loader = [1]
    check_split(Trainer)


def test_names_are_those_of_the_code() -> None:
    assert set(TRANSFORMS) == set(AVAI_CHOICES)
    assert set(ROWS["OPTIM.NAME"].names) == set(OPTIMIZERS)
    assert set(ROWS["INPUT.INTERPOLATION"].names) == set(INTERPOLATION_MODES)
    with pytest.raises(UsageError, match=f"allowed: {', '.join(sorted(SAMPLERS))}$"):
        build_sampler("no-such-name")


def test_literal_rows_suggest_names() -> None:
    literal = {key for key, row in ALL.items() if get_origin(row.kind) is Literal}
    assert all(get_args(ALL[key].kind) == ALL[key].names for key in literal)


def test_home_folders_are_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    cfg = config()
    merge_opts(cfg, ["OUTPUT_DIR", "~/x", "DATASET.ROOT", "a~", "MODEL_DIR", "~/m"])
    expand_paths(cfg, ALL)
    assert (cfg.OUTPUT_DIR, cfg.DATASET.ROOT) == ("/home/someone/x", "a~")
    assert cfg.MODEL_DIR == "/home/someone/m"


def test_document_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert list_settings.main([]) == 0
    assert capsys.readouterr().out == DOCUMENT.read_text(), "run make settings"
