"""The config tree: every key of Dassl 0.6.3, merged from files and command lines."""

from pathlib import Path

import pytest

from dassl.config import clean_cfg, get_cfg_default, merge_file, merge_opts, with_bases
from dassl.utils import UsageError

# Every setting of Dassl 0.6.3 (TRAINER's sections by name), and defaults that code relies on.
ORIGINAL = {
    "": "VERSION OUTPUT_DIR RESUME SEED USE_CUDA VERBOSE",
    "INPUT": "SIZE INTERPOLATION TRANSFORMS NO_TRANSFORM PIXEL_MEAN PIXEL_STD CROP_PADDING "
    "RRCROP_SCALE CUTOUT_N CUTOUT_LEN GN_MEAN GN_STD RANDAUGMENT_N RANDAUGMENT_M COLORJITTER_B "
    "COLORJITTER_C COLORJITTER_S COLORJITTER_H RGS_P GB_P GB_K",
    "DATASET": "ROOT NAME SOURCE_DOMAINS TARGET_DOMAINS NUM_LABELED NUM_SHOTS VAL_PERCENT "
    "STL10_FOLD CIFAR_C_TYPE CIFAR_C_LEVEL ALL_AS_UNLABELED",
    "DATALOADER": "NUM_WORKERS K_TRANSFORMS RETURN_IMG0 TRAIN_X TRAIN_U TEST",
    "DATALOADER.TRAIN_X": "SAMPLER BATCH_SIZE N_DOMAIN N_INS",
    "DATALOADER.TRAIN_U": "SAME_AS_X SAMPLER BATCH_SIZE N_DOMAIN N_INS",
    "DATALOADER.TEST": "SAMPLER BATCH_SIZE",
    "MODEL": "INIT_WEIGHTS BACKBONE HEAD",
    "MODEL.BACKBONE": "NAME PRETRAINED",
    "MODEL.HEAD": "NAME HIDDEN_LAYERS ACTIVATION BN DROPOUT",
    "OPTIM": "NAME LR WEIGHT_DECAY MOMENTUM SGD_DAMPNING SGD_NESTEROV RMSPROP_ALPHA ADAM_BETA1 "
    "ADAM_BETA2 STAGED_LR NEW_LAYERS BASE_LR_MULT LR_SCHEDULER STEPSIZE GAMMA MAX_EPOCH "
    "WARMUP_EPOCH WARMUP_TYPE WARMUP_CONS_LR WARMUP_MIN_LR WARMUP_RECOUNT",
    "TRAIN": "CHECKPOINT_FREQ PRINT_FREQ COUNT_ITER",
    "TEST": "EVALUATOR PER_CLASS_RESULT COMPUTE_CMAT NO_TEST SPLIT FINAL_MODEL",
    "TRAINER": "NAME MCD MME CDAC SE M3SDA DAEL CROSSGRAD DDAIG DAELDG DOMAINMIX ENTMIN "
    "MEANTEACHER MIXMATCH FIXMATCH",
}
DEFAULTS = {
    "SEED": -1,
    "INPUT.SIZE": (224, 224),
    "INPUT.INTERPOLATION": "bilinear",
    "DATASET.NUM_SHOTS": -1,
    "DATALOADER.NUM_WORKERS": 4,
    "DATALOADER.TRAIN_X.BATCH_SIZE": 32,
    "OPTIM.NAME": "adam",
    "OPTIM.LR": 0.0003,
    "OPTIM.WEIGHT_DECAY": 5e-4,
    "OPTIM.ADAM_BETA2": 0.999,
    "OPTIM.STEPSIZE": (-1,),
    "OPTIM.WARMUP_EPOCH": -1,
    "OPTIM.WARMUP_RECOUNT": True,
    "TEST.FINAL_MODEL": "last_step",
    "TRAINER.FIXMATCH.CONF_THRE": 0.95,
    "TRAINER.CDAC.RAMPUP_ITRS": 1000,
    "TRAINER.DOMAINMIX.TYPE": "crossdomain",
}


def look_up(cfg, key):
    for part in filter(None, key.split(".")):
        cfg = cfg[part]
    return cfg


@pytest.mark.parametrize("section", ORIGINAL)
def test_every_key_of_the_original_exists(section):
    assert set(ORIGINAL[section].split()) <= set(look_up(get_cfg_default(), section))


def test_added_keys():
    cfg = get_cfg_default()
    ours = {
        f"{section}.{key}"
        for section, keys in ORIGINAL.items()
        if section
        for key in set(look_up(cfg, section)) - set(keys.split())
    }
    assert ours == {
        *("TEST.SELECT_ON_TEST", "DATALOADER.FEATURE_STORE", "DATALOADER.VIEWS", "OPTIM.ADAM_EPS")
    }


@pytest.mark.parametrize(("key", "value"), DEFAULTS.items())
def test_defaults(key, value):
    assert look_up(get_cfg_default(), key) == value


def test_configs_are_independent():
    get_cfg_default().DATALOADER.TRAIN_U.BATCH_SIZE = 1
    cfg = get_cfg_default()
    cfg.DATALOADER.TRAIN_X.BATCH_SIZE = 2
    assert (cfg.DATALOADER.TRAIN_U.BATCH_SIZE, cfg.DATALOADER.TRAIN_X.BATCH_SIZE) == (32, 2)


COOP_YAML = """
DATALOADER:
  TRAIN_X:
    BATCH_SIZE: 32
  NUM_WORKERS: 8
INPUT:
  SIZE: (224, 224)
  INTERPOLATION: "bicubic"
  PIXEL_MEAN: [0.48145466, 0.4578275, 0.40821073]
  TRANSFORMS: ["random_resized_crop", "random_flip", "normalize"]
OPTIM:
  NAME: "sgd"
  LR: 0.002
  WARMUP_CONS_LR: 1e-5
MODEL:
  BACKBONE:
    NAME: "ViT-B/16"
"""


def test_coop_style_file_merges_as_with_yacs(tmp_path):
    path = tmp_path / "vit_b16.yaml"
    path.write_text(COOP_YAML)
    ours, theirs = get_cfg_default(), get_cfg_default()
    merge_file(ours, path)
    theirs.merge_from_file(str(path))
    assert ours == theirs
    assert ours.INPUT.SIZE == (224, 224)
    assert ours.INPUT.TRANSFORMS == ("random_resized_crop", "random_flip", "normalize")
    assert ours.OPTIM.WARMUP_CONS_LR == 1e-5  # YAML reads 1e-5 as a string


def test_bases_come_first_and_are_relative_to_the_file(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "base.yaml").write_text("OPTIM: {LR: 0.5, NAME: sgd, MAX_EPOCH: 3}")
    (tmp_path / "middle.yaml").write_text("_BASE_: base.yaml\nOPTIM: {LR: 0.25}")
    (tmp_path / "sub" / "top.yaml").write_text("_BASE_: ../middle.yaml\nOPTIM: {MAX_EPOCH: 7}")
    cfg = get_cfg_default()
    merge_file(cfg, tmp_path / "sub" / "top.yaml")
    assert (cfg.OPTIM.LR, cfg.OPTIM.NAME, cfg.OPTIM.MAX_EPOCH) == (0.25, "sgd", 7)


def test_files_can_be_read_with_their_bases_first(tmp_path):
    base, top = tmp_path / "base.yaml", tmp_path / "top.yaml"
    base.write_text("SEED: 1")
    top.write_text("_BASE_: base.yaml\nSEED: 2")
    assert list(with_bases(str(top))) == [(base, {"SEED": 1}), (top, {"SEED": 2})]


def test_cycle_of_bases_raises(tmp_path):
    (tmp_path / "a.yaml").write_text("_BASE_: b.yaml")
    (tmp_path / "b.yaml").write_text("_BASE_: a.yaml")
    with pytest.raises(UsageError, match=r"a\.yaml.* is its own _BASE_"):
        merge_file(get_cfg_default(), tmp_path / "a.yaml")


def test_empty_files_and_sections_set_nothing(tmp_path):
    path = tmp_path / "empty.yaml"
    path.write_text("")
    cfg = get_cfg_default()
    merge_file(cfg, path)
    path.write_text("OPTIM:\n  # NAME: sgd\n")
    merge_file(cfg, path)
    assert cfg == get_cfg_default()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("OPTIM: {LT: 1.0}", r"unknown setting 'OPTIM\.LT' in .*x\.yaml: did you mean 'LR'"),
        ("OPTIMS: {}", r"unknown setting 'OPTIMS' .*did you mean 'OPTIM'"),
        ("OPTIM: 3", r"'OPTIM' is a section of settings, got 3"),
        ("OPTIM: {LR: {X: 1}}", r"'OPTIM\.LR' is not a section"),
        (
            "OPTIM: {LR: fast}",
            r"'OPTIM\.LR' must be a number .*got 'fast' \(a string\)",
        ),
        ("OPTIM: {MAX_EPOCH: 1.5}", r"'OPTIM\.MAX_EPOCH' must be an integer such as 10"),
        ("TEST: {NO_TEST: 1}", r"'TEST\.NO_TEST' must be a boolean"),
        ("- a list", "must have KEY: value lines"),
        ("OPTIM: [", "is not valid YAML"),
        ("A: [1\nB: {", "is not valid YAML: while parsing a flow"),
        (
            "A: !!python/object:os.system {}",
            "is not valid YAML: line 1: could not determine a constructor",
        ),
        ("DATASET: {ROOT: \xe4}".encode("latin-1"), "it is not UTF-8 text"),
        ("OPTIM: {LR: }", r"'OPTIM\.LR' must be a number such as 0\.0003, got None in"),
    ],
)
def test_invalid_files_raise_a_one_line_error(tmp_path, content, message):
    path = tmp_path / "x.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError, match=message) as error:
        merge_file(get_cfg_default(), path)
    assert "\n" not in str(error.value)


def test_a_missing_file_names_the_nearest(tmp_path):
    (tmp_path / "vit_b16_ctxv1.yaml").touch()
    with pytest.raises(UsageError, match=r"no config file at .*did you mean 'vit_b16_ctxv1'"):
        merge_file(get_cfg_default(), tmp_path / "vit_b16_ctx1.yaml")
    with pytest.raises(UsageError, match=r"folder .* does not exist"):
        merge_file(get_cfg_default(), tmp_path / "nowhere" / "x.yaml")
    with pytest.raises(UsageError, match=r"folder .*ctxv1\.yaml' does not exist"):
        merge_file(get_cfg_default(), tmp_path / "vit_b16_ctxv1.yaml" / "x.yaml")


def test_an_unreadable_file_raises_a_clear_error(tmp_path, monkeypatch):
    def denied(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(UsageError, match=r"cannot read the config file .*: Permission denied"):
        merge_file(get_cfg_default(), tmp_path / "x.yaml")


def test_opts_are_parsed_as_by_yacs_and_integers_are_accepted_for_floats():
    cfg = get_cfg_default()
    words = ["OPTIM.LR", "1", "OPTIM.MAX_EPOCH", "3", "INPUT.SIZE", "(32, 32)", "SEED", 7]
    merge_opts(cfg, [*words, "DATASET.SOURCE_DOMAINS", ["a"], "TEST.NO_TEST", "True"])
    assert cfg.OPTIM.LR == 1.0
    assert type(cfg.OPTIM.LR) is float
    assert (cfg.OPTIM.MAX_EPOCH, cfg.INPUT.SIZE, cfg.SEED) == (3, (32, 32), 7)
    assert (cfg.DATASET.SOURCE_DOMAINS, cfg.TEST.NO_TEST) == (("a",), True)


def test_later_opts_win():
    cfg = get_cfg_default()
    merge_opts(cfg, ["SEED", "1", "SEED", "2"])
    assert cfg.SEED == 2


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["OPTIM.LR"], "KEY VALUE pairs, got 1 words"),
        (["OPTIM.L", "1"], r"'OPTIM\.L' on the command line: did you mean 'LR'"),
        (["OPTIM.LR.X", "1"], r"'OPTIM\.LR' is not a section"),
        (["OPTIM", "1"], "section of settings"),
        (["OPTIM.LR", "True"], r"'OPTIM\.LR' must be a number"),
        (["OPTIM.LR", "None"], r"'OPTIM\.LR' must be a number such as 0\.0003, got None on the"),
        (["OPTIM.MOMENTUM", None], r"'OPTIM\.MOMENTUM' must be a number .*got None"),
        (["SEED", "None"], r"'SEED' must be an integer such as -1, got None"),
        (["DATASET.ROOT", "None"], r"'DATASET\.ROOT' must be a string such as '', got None"),
    ],
)
def test_invalid_opts_raise_a_clear_error(opts, message):
    with pytest.raises(UsageError, match=message):
        merge_opts(get_cfg_default(), opts)


def test_settings_with_default_none_accept_values_and_none():
    cfg = get_cfg_default()
    cfg.TRAINER.MCD.LIMIT = None
    merge_opts(cfg, ["TRAINER.MCD.LIMIT", "3"])
    assert cfg.TRAINER.MCD.LIMIT == 3
    cfg.TRAINER.MCD.LIMIT = None
    merge_opts(cfg, ["TRAINER.MCD.LIMIT", "None"])
    assert cfg.TRAINER.MCD.LIMIT is None


def test_open_sections_take_new_keys():
    cfg = get_cfg_default()
    cfg.TRAINER.MCD.set_new_allowed(True)
    merge_opts(cfg, ["TRAINER.MCD.NEW", "0.5"])
    assert cfg.TRAINER.MCD.NEW == 0.5


def test_clean_cfg_keeps_one_trainer():
    cfg = get_cfg_default()
    clean_cfg(cfg, "FixMatch")
    assert set(cfg.TRAINER) == {"NAME", "FIXMATCH"}


def test_the_tree_can_be_dumped_and_merged_again(tmp_path):
    path = Path(tmp_path) / "all.yaml"
    path.write_text(get_cfg_default().dump())
    cfg = get_cfg_default()
    merge_file(cfg, path)
    assert cfg == get_cfg_default()
