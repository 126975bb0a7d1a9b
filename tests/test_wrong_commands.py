"""A catalogue of wrong commands: each ends with exit code 2 and one sentence that names the cause.

Commands run in this process and fail before they load data or start a job.
"""

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

import parse_test_res
import train
from scripts import (
    ablate,
    convert_checkpoint,
    demo,
    export_config,
    list_settings,
    probe,
    reproduce,
    results,
    run,
    sweep,
)
from tests.toy_command import console

__all__ = ["console"]  # a fixture, used by every test here

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"

# Words after a valid train.py command -> a part of its sentence.
SETTINGS = {
    # ranges of Dassl's settings
    "SEED 4294967296": "SEED must be",
    "SEED 1.5": "'SEED' must be an integer",
    "USE_CUDA 1": "'USE_CUDA' must be a boolean",
    "USE_CUDA yes": "'USE_CUDA' must be a boolean",
    "VERBOSE None": "'VERBOSE' must be a boolean",
    "OUTPUT_DIR 3": "'OUTPUT_DIR' must be a string",
    "INPUT.SIZE 64": "'INPUT.SIZE' must be a tuple",
    "INPUT.SIZE (64,)": "INPUT.SIZE must be two whole numbers",
    "INPUT.SIZE '(64, 0)'": "INPUT.SIZE must be two whole numbers",
    "INPUT.SIZE '(64, -64)'": "INPUT.SIZE must be two whole numbers",
    "INPUT.SIZE '(64, 64, 3)'": "INPUT.SIZE must be two whole numbers",
    "INPUT.SIZE '(100000, 100000)'": "from 1 to 4,096",
    "INPUT.SIZE '(64.0, 64.0)'": "INPUT.SIZE must be two whole numbers",
    "INPUT.SIZE '(True, True)'": "INPUT.SIZE must be two whole numbers",
    "INPUT.INTERPOLATION bicubik": "did you mean 'bicubic'",
    "INPUT.TRANSFORMS random_flip": "'INPUT.TRANSFORMS' must be a tuple",
    "INPUT.TRANSFORMS \"('random_flop',)\"": "did you mean 'random_flip'",
    "INPUT.TRANSFORMS (1,)": "INPUT.TRANSFORMS must be a list",
    "INPUT.NO_TRANSFORM True": "INPUT.NO_TRANSFORM True",
    "INPUT.PIXEL_MEAN [0.5]": "INPUT.PIXEL_MEAN must be three numbers",
    "INPUT.PIXEL_MEAN '[0.5, 0.5, 1e999]'": "INPUT.PIXEL_MEAN must be three numbers",
    "INPUT.PIXEL_STD '[0.5, 0.5, 0]'": "INPUT.PIXEL_STD must be three positive numbers",
    "INPUT.CROP_PADDING -1": "INPUT.CROP_PADDING",
    "INPUT.RRCROP_SCALE '(0.9, 0.1)'": "0 < a <= b <= 1",
    "INPUT.RRCROP_SCALE '(0, 1)'": "0 < a <= b <= 1",
    "INPUT.CUTOUT_N -1": "INPUT.CUTOUT_N",
    "INPUT.CUTOUT_LEN -16": "INPUT.CUTOUT_LEN",
    "INPUT.GN_STD -0.1": "INPUT.GN_STD",
    "INPUT.RANDAUGMENT_N -1": "INPUT.RANDAUGMENT_N",
    "INPUT.RANDAUGMENT_M 31": "INPUT.RANDAUGMENT_M",
    "INPUT.COLORJITTER_B -0.1": "INPUT.COLORJITTER_B",
    "INPUT.COLORJITTER_H 0.6": "INPUT.COLORJITTER_H",
    "INPUT.RGS_P 1.5": "INPUT.RGS_P",
    "INPUT.GB_P -0.5": "INPUT.GB_P",
    "INPUT.GB_K 0": "INPUT.GB_K",
    "INPUT.GB_K 4 INPUT.TRANSFORMS \"('gaussian_blur',)\"": "INPUT.GB_K must be an odd number",
    "DATASET.NUM_SHOTS -2": "DATASET.NUM_SHOTS",
    "DATASET.NUM_SHOTS 2000000": "DATASET.NUM_SHOTS",
    "DATASET.NUM_SHOTS all": "'DATASET.NUM_SHOTS' must be an integer",
    "DATASET.VAL_PERCENT 2.0": "DATASET.VAL_PERCENT",
    "DATASET.SUBSAMPLE_CLASSES bass": "must be one of all, base, new, got 'bass'",
    "DATASET.DISTILL_ON few-shot": "did you mean 'few_shot'",
    "DATASET.DISTILL_ON all": "DATASET.DISTILL_ON all is for trainers without labels",
    "DATASET.SOURCE_DOMAINS (1,)": "DATASET.SOURCE_DOMAINS must be a list of names",
    "DATASET.NAME 3": "'DATASET.NAME' must be a string",
    "DATALOADER.NUM_WORKERS -1": "DATALOADER.NUM_WORKERS",
    "DATALOADER.NUM_WORKERS 100000": "DATALOADER.NUM_WORKERS",
    "DATALOADER.K_TRANSFORMS 0": "DATALOADER.K_TRANSFORMS",
    "DATALOADER.K_TRANSFORMS -1": "DATALOADER.K_TRANSFORMS",
    "DATALOADER.K_TRANSFORMS 3": "DATALOADER.K_TRANSFORMS is 3",
    "DATALOADER.VIEWS -1": "DATALOADER.VIEWS",
    f"DATALOADER.FEATURE_STORE {__file__}": "is a file: choose a folder",
    "DATALOADER.TRAIN_X.BATCH_SIZE 0": "DATALOADER.TRAIN_X.BATCH_SIZE",
    "DATALOADER.TRAIN_X.BATCH_SIZE 1e3": "must be an integer",
    "DATALOADER.TRAIN_X.SAMPLER RandomSampla": "did you mean 'RandomSampler'",
    "DATALOADER.TRAIN_X.N_INS 0": "DATALOADER.TRAIN_X.N_INS",
    "DATALOADER.TEST.BATCH_SIZE -1": "DATALOADER.TEST.BATCH_SIZE",
    "MODEL.HEAD.DROPOUT 2.0": "MODEL.HEAD.DROPOUT",
    "OPTIM.NAME sdg": "did you mean 'sgd'",
    "OPTIM.LR -0.1": "OPTIM.LR",
    "OPTIM.LR 1e999": "OPTIM.LR must be a number from 0",
    "OPTIM.LR nan": "'OPTIM.LR' must be a number",
    "OPTIM.LR True": "'OPTIM.LR' must be a number",
    "OPTIM.LR fast": "'OPTIM.LR' must be a number",
    "OPTIM.WEIGHT_DECAY -1": "OPTIM.WEIGHT_DECAY",
    "OPTIM.MOMENTUM 2": "OPTIM.MOMENTUM",
    "OPTIM.MOMENTUM -1": "OPTIM.MOMENTUM",
    "OPTIM.SGD_DAMPNING 2": "OPTIM.SGD_DAMPNING",
    "OPTIM.SGD_NESTEROV True OPTIM.MOMENTUM 0.0": "OPTIM.SGD_NESTEROV True needs",
    "OPTIM.RMSPROP_ALPHA 1.0": "OPTIM.RMSPROP_ALPHA",
    "OPTIM.ADAM_BETA1 1.0": "OPTIM.ADAM_BETA1",
    "OPTIM.ADAM_BETA2 -0.5": "OPTIM.ADAM_BETA2",
    "OPTIM.BASE_LR_MULT -1": "OPTIM.BASE_LR_MULT",
    "OPTIM.LR_SCHEDULER cosin": "did you mean 'cosine'",
    "OPTIM.STEPSIZE (1.5,)": "OPTIM.STEPSIZE",
    "OPTIM.STEPSIZE (-7,)": "OPTIM.STEPSIZE",
    "OPTIM.GAMMA -1": "OPTIM.GAMMA",
    "OPTIM.MAX_EPOCH 0": "OPTIM.MAX_EPOCH",
    "OPTIM.MAX_EPOCH 1.5": "'OPTIM.MAX_EPOCH' must be an integer",
    "OPTIM.MAX_EPOCH 10**9": "'OPTIM.MAX_EPOCH' must be an integer",
    "OPTIM.WARMUP_EPOCH 21": "OPTIM.WARMUP_EPOCH 21 is more than OPTIM.MAX_EPOCH 20",
    "OPTIM.WARMUP_EPOCH -5": "OPTIM.WARMUP_EPOCH",
    "OPTIM.WARMUP_TYPE quadratic": "OPTIM.WARMUP_TYPE",
    "OPTIM.WARMUP_CONS_LR -1": "OPTIM.WARMUP_CONS_LR",
    "OPTIM.WARMUP_MIN_LR -1e-5": "OPTIM.WARMUP_MIN_LR",
    "TRAIN.PRINT_FREQ 0": "TRAIN.PRINT_FREQ",
    "TRAIN.CHECKPOINT_FREQ -2": "TRAIN.CHECKPOINT_FREQ",
    "TRAIN.COUNT_ITER train_y": "TRAIN.COUNT_ITER",
    "TEST.SPLIT train": "TEST.SPLIT",
    "TEST.FINAL_MODEL best": "did you mean 'best_val'",
    "TEST.NO_TEST 1": "'TEST.NO_TEST' must be a boolean",
    # ranges of the trainers' settings
    "TRAINER.MODAL corss": "did you mean 'cross'",
    "TRAINER.COMPILE 1": "'TRAINER.COMPILE' must be a boolean",
    "TRAINER.TEXT_CHUNK -1": "TRAINER.TEXT_CHUNK",
    "TRAINER.COOP.N_CTX 0": "TRAINER.COOP.N_CTX",
    "TRAINER.COOP.N_CTX 5000": "TRAINER.COOP.N_CTX",
    "TRAINER.COOP.CSC 1": "'TRAINER.COOP.CSC' must be a boolean",
    "TRAINER.COOP.CTX_INIT 3": "'TRAINER.COOP.CTX_INIT' must be a string",
    "TRAINER.COOP.PREC fp61": "did you mean 'fp16'",
    "TRAINER.COOP.CLASS_TOKEN_POSITION last": "must be one of end, middle, front",
    "TRAINER.COCOOP.MAX_PROMPTS -1": "TRAINER.COCOOP.MAX_PROMPTS",
    "TRAINER.MAPLE.PROMPT_DEPTH 0": "TRAINER.MAPLE.PROMPT_DEPTH",
    "TRAINER.PROMPTSRC.TEXT_LOSS_WEIGHT -1": "TRAINER.PROMPTSRC.TEXT_LOSS_WEIGHT",
    "TRAINER.PROMPTSRC.IMAGE_LOSS_WEIGHT -1": "TRAINER.PROMPTSRC.IMAGE_LOSS_WEIGHT",
    "TRAINER.PROMPTSRC.GPA_STD 0": "TRAINER.PROMPTSRC.GPA_STD",
    "TRAINER.PROMPTKD.KD_WEIGHT -1": "TRAINER.PROMPTKD.KD_WEIGHT",
    "TRAINER.PROMPTKD.CE_WEIGHT 1": "TRAINER.PROMPTKD.CE_WEIGHT must be 0",
    "TRAINER.PROMPTKD.PROJECT_LAYER 3": "TRAINER.PROMPTKD.PROJECT_LAYER must be 2",
    "TRAINER.PROMPTKD.TEMPERATURE 0": "TRAINER.PROMPTKD.TEMPERATURE",
    "TRAINER.PROMPTKD.LOCAL_WEIGHT -1": "TRAINER.PROMPTKD.LOCAL_WEIGHT",
    "TRAINER.TEXTREFINER.CACHE_SIZE -1": "TRAINER.TEXTREFINER.CACHE_SIZE",
    "TRAINER.TEXTREFINER.CACHE_SIZE 2000000": "TRAINER.TEXTREFINER.CACHE_SIZE",
    "TRAINER.TEXTREFINER.MOMENTUM 1.5": "TRAINER.TEXTREFINER.MOMENTUM",
    "TRAINER.TEXTREFINER.ALPHA 1e999": "TRAINER.TEXTREFINER.ALPHA",
    "TRAINER.TEXTREFINER.TOPK -1": "TRAINER.TEXTREFINER.TOPK",
    "TRAINER.TEXTREFINER.LOCAL_WEIGHT -0.1": "TRAINER.TEXTREFINER.LOCAL_WEIGHT",
    "TRAINER.TEXTREFINER.REG_WEIGHT -1": "TRAINER.TEXTREFINER.REG_WEIGHT",
    "TRAINER.TEXTREFINER.CACHE 0": "'TRAINER.TEXTREFINER.CACHE' must be a boolean",
    "TRAINER.TF.BALANCE 0.0": "TRAINER.TF.BALANCE (--loss-factor)",
    "TRAINER.TF.MEMORY_SIZE -1": "TRAINER.TF.MEMORY_SIZE",
    "TRAINER.TF.DISTILL -2.0": "TRAINER.TF.DISTILL",
    "TRAINER.TF.ALPHA much": "TRAINER.TF.ALPHA",
    # names and pairs
    "OPTIM.LRR 0.1": "did you mean 'LR'",
    "OPTIMS.LR 0.1": "did you mean 'OPTIM'",
    "TRAINER.COOOP.N_CTX 4": "did you mean 'COOP'",
    "OPTIM 0.1": "'OPTIM' is a section of settings",
    "OPTIM.LR.X 0.1": "'OPTIM.LR' is not a section",
    "optim.lr 0.1": "did you mean 'OPTIM'",
    "OPTIM.LR": "must be KEY VALUE pairs, got 1 words",
    "OPTIM.LR 0.1 SEED": "must be KEY VALUE pairs, got 3 words",
    "OPTIM.LR=0.1": "must be KEY VALUE pairs, got 1 words",
}

# Flags of train.py that replace those of a valid command -> a part of its sentence.
FLAGS = {
    "--trainer CoOpp": "did you mean 'CoOp'",
    "--trainer ''": "no trainer is registered as",
    "--config-file nowhere.yaml": "no config file at 'nowhere.yaml'",
    "--config-file configs": "is a folder, but should be a YAML file",
    f"--config-file {CONFIGS}/trainers/CoOp/critter.yaml": "did you mean 'critters'",
    f"--config-file {ROOT}/README.md": "README.md",
    f"--config-file {ROOT}/tests/data/coop.npz": "it is not UTF-8 text",
    f"--dataset-config-file {CONFIGS}/datasets/caltec101.yaml": "did you mean 'caltech101'",
    f"--dataset-config-file {CONFIGS}/protocols.yaml": "unknown setting",
    "--load-epoch 3": "--load-epoch 3 needs the folder to load as --model-dir",
    "--model-dir somewhere": "is read with --eval-only only",
    "--loss-factor 0": "TRAINER.TF.BALANCE (--loss-factor)",
    "--loss-factor -1": "TRAINER.TF.BALANCE (--loss-factor)",
    "--loss-factor inf": "TRAINER.TF.BALANCE",
    "--loss-factor nan": "TRAINER.TF.BALANCE",
    "--distill-factor -1": "TRAINER.TF.DISTILL",
    "--memory-size -5": "TRAINER.TF.MEMORY_SIZE",
    "--alpha nan": "TRAINER.TF.ALPHA",
    "--seed 4294967296": "SEED must be",
    "--transforms random_flop": "did you mean 'random_flip'",
    "--transforms random_flip OPTIM.LR 0.1": "--transforms has taken OPTIM.LR",
    "--source-domains a OPTIM.LR 0.1": "--source-domains has taken OPTIM.LR",
    "--target-domains a OPTIM.LR 0.1": "--target-domains has taken OPTIM.LR",
}

GRID = "--trainers coop --datasets critters --seeds 1 --dry-run"
# Arguments of the other programs -> a part of their sentence.
RUN = {
    "coop": "PROTOCOL is missing",
    "coop base2new": "DATASET is missing",
    "coop base2new dtd": "SEED is missing",
    "coop base2new dtd one": "SEED must be a whole number",
    "coop base2new dtd -1": "SEED must be a whole number",
    "coop base2new dtd 1.0": "SEED must be a whole number",
    "coop base2new dtd 4294967296": "SEED must be a whole number",
    "coop base2new dtd 99999999999999999999999": "SEED must be a whole number",
    "cop base2new dtd 1": "did you mean 'coop'",
    "coop base2old dtd 1": "did you mean 'base2new'",
    "coop base2new dtdd 1": "did you mean 'dtd'",
    "coop xd dtd 1": "lists no cross_datasets of the source 'dtd'",
    "coop base2new critters 1 OPTIM.LR": "'OPTIM.LR' has no value",
    "coop base2new critters 1 --resume x": "got '--resume'",
    "coop base2new critters 1 --dry-run OPTIM.LRR 0.1": "did you mean 'LR'",
    "coop base2new critters 1 --dry-run OPTIMS.LR 0.1": "unknown setting 'OPTIMS.LR'",
    "coop base2new critters 1 --dry-run TRAINER.COOOP.N_CTX 3": "TRAINER.COOP.N_CTX",
    "coop base2new critters 1 --dry-run TRAINER.COOP.NCTX 3": "did you mean 'N_CTX'",
    "coop base2new critters 1 --dry-run OPTIM 3": "'OPTIM' is a section of settings",
    "coop base2new critters 1 --dry-run OPTIM.LR -1": "OPTIM.LR must be a number from 0",
    "coop base2new critters 1 --dry-run OPTIM.LR fast": "OPTIM.LR must be a number from 0",
    "coop base2new critters 1 --dry-run OPTIM.GAMMA -1": "OPTIM.GAMMA must be",
    "coop base2new critters 1 --dry-run TEST.NO_TEST 1": "TEST.NO_TEST must be True or False",
    "coop base2new critters 1 --dry-run TRAINER.COOP.PREC fp61": "did you mean 'fp16'",
    "coop base2new critters 1 OPTIM.MAX_EPOCH many": "OPTIM.MAX_EPOCH takes a positive",
    "coop base2new critters 1 DATASET.NUM_SHOTS 4": "choose them with SHOTS",
    "coop base2new critters 1 SEED 4": "choose it with SEED",
    "coop base2new critters 1 OUTPUT_DIR x": "choose the folder with OUTPUT",
    "coop base2new critters 1 TRAINER.NAME CoCoOp": "choose the trainer",
    "coop base2new caltech101 1": "no data folder /nowhere",
}
SWEEP = {
    "": "required: --trainers, --datasets",
    "--trainers coop --datasets": "--datasets: expected at least one argument",
    f"{GRID} --seeds -1": "--seeds: takes a whole number from 0",
    f"{GRID} --seeds one": "--seeds: takes a whole number from 0",
    f"{GRID} --seeds 1.5": "--seeds: takes a whole number from 0",
    f"{GRID} --seeds 4294967296": "--seeds: takes a whole number from 0",
    f"{GRID} --workers 0": "--workers: takes a whole number from 1",
    f"{GRID} --workers -2": "--workers: takes a whole number from 1",
    f"{GRID} --workers two": "--workers: takes a whole number from 1",
    f"{GRID} --cpus 0": "--cpus: takes a whole number from 1",
    f"{GRID} --gpus -1": "--gpus: takes a number from 0",
    f"{GRID} --gpus nan": "--gpus: takes a number from 0",
    f"{GRID} --gpus all": "--gpus: takes a number from 0",
    f"{GRID} --retries -1": "--retries: takes a whole number from 0",
    f"{GRID} --time 0": "--time: takes a whole number from 1",
    f"{GRID} --array 0": "--array: takes a whole number from 1",
    f"{GRID} --name ../elsewhere": "--name takes the name of a folder",
    f"{GRID} --ray --slurm": "not allowed with argument --ray",
    f"{GRID} --ray-address auto": "is read with --ray only",
    f"{GRID} --slurm --gpus 0.5": "--gpus 0.5 is a share",
    f"{GRID} --trainers cop": "did you mean 'coop'",
    f"{GRID} --datasets criters": "did you mean 'critters'",
    f"{GRID} --protocol base2old": "did you mean 'base2new'",
    f"{GRID} --set OPTIM.LR": "'OPTIM.LR' has no value",
    f"{GRID} --set OPTIM.LRR 1": "did you mean 'LR'",
    f"{GRID} --set OPTIM.MAX_EPOCH 0": "OPTIM.MAX_EPOCH takes a positive whole number",
    f"{GRID} --wokers 2": "unrecognized arguments: --wokers 2",
}
REPRODUCE = {
    "--methods cop": "did you mean 'coop'",
    "--datasets dtdd": "did you mean 'dtd'",
    "--protocols base2old": "did you mean 'base2new'",
    "--seeds -1": "--seeds: takes a whole number from 0",
    "--workers 0": "--workers: takes a whole number from 1",
    "--methods coop --protocols xd --datasets dtd": "no job: none of the methods",
    "--methods": "--methods: expected at least one argument",
    "--dryrun": "unrecognized arguments: --dryrun",
}
ABLATE = {
    "": "required: dataset",
    "critters 1": "unrecognized arguments: 1",
    "critters --seeds one": "--seeds: takes a whole number from 0",
    "critters --seeds -1": "--seeds: takes a whole number from 0",
    "criters": "did you mean 'critters'",
    "critters --rows no-cash": "did you mean 'no-cache'",
    "critters --rows ,": "--rows: takes names separated by commas",
    "critters --method MaPLee": "did you mean 'MaPLe'",
    "critters --workers 0": "--workers: takes a whole number from 1",
    "critters --set OPTIM.LR": "'OPTIM.LR' has no value",
    "critters --set OPTIM.LRR 1 --dry-run": "did you mean 'LR'",
    "critters --set TRAINER.TEXTREFINER.ALPHA 1.0": "leave out --set",
}
DEMO = {"--al1": "unrecognized arguments: --al1", "all": "unrecognized arguments: all"}
RESULTS = {
    "": "required: folder",
    "nowhere": "nowhere",
    "''": "folder: takes a path",
    "'a\0b'": "folder: takes a path",
    ". --seeds one": "--seeds: takes a whole number from 0",
    ". --seeds -1": "--seeds: takes a whole number from 0",
    ". --format latx": "--format: invalid choice: 'latx'",
    ". --outt x": "unrecognized arguments: --outt x",
}
EXPORT = {
    "": "required: config",
    "nowhere.yaml": "no config file at 'nowhere.yaml'",
    f"{CONFIGS}": "is a folder, but should be a YAML file",
    f"{CONFIGS}/trainers/CoOp/critter.yaml": "did you mean 'critters'",
    f"{ROOT}/tests/data/coop.npz": "it is not UTF-8 text",
    "'a\0b'": "config: takes a path",
}
CONVERT = {
    "": "required: --to, source, target",
    "a b": "required: --to",
    "--to theirs a b": "--to: invalid choice: 'theirs'",
    "--to ours a": "required: target",
    "--to ours nowhere new": "nowhere",
    "--to ours 'a\0b' new": "source: takes a path",
    "--to release nowhere new": "nowhere",
}
PARSE = {
    "": "required: directory",
    "nowhere": "no directory nowhere",
    f"{ROOT}/docs": "no */log.txt in",
    f"{__file__}": "no directory",
    f"{ROOT}/docs --keyword": "--keyword: expected one argument",
    f"{ROOT}/notebooks --multi-exp": "no folder in",
    "'a\0b'": "directory: takes a path",
}
PROBE = {
    "": "required: RUN",
    "nowhere": "there is no folder 'nowhere': give the output folder of a run",
    f"{ROOT}/docs {ROOT}/docs": "a RUN is given twice",
    f"{ROOT}/docs": "has no config.yaml: give the output folder of a run",
    f"{ROOT}/docs --seed -1": "--seed: takes a whole number from 0",
    f"{ROOT}/docs --max-images 0": "--max-images: takes a whole number from 1",
    f"{ROOT}/docs --json {ROOT}": "it is a folder, give a file name",
    "'a\0b'": "RUN: takes a path",
}
PROGRAMS: dict[str, tuple[Callable[[list[str]], int], dict[str, str]]] = {
    "run": (lambda words: run.main(words, {"DATA": "/nowhere"}), RUN),
    "sweep": (lambda words: sweep.main(words, {}), SWEEP),
    "reproduce": (lambda words: reproduce.main(words, {}), REPRODUCE),
    "ablate": (lambda words: ablate.main(words, {}), ABLATE),
    "demo": (lambda words: demo.main(words, {}), DEMO),
    "results": (results.main, RESULTS),
    "probe": (probe.main, PROBE),
    "export_config": (export_config.main, EXPORT),
    "convert_checkpoint": (convert_checkpoint.main, CONVERT),
    "parse_test_res": (parse_test_res.main, PARSE),
    "list_settings": (list_settings.main, {"x": "unrecognized arguments: x"}),
}
LINES = [(name, line) for name, (_, lines) in PROGRAMS.items() for line in lines]

FILES = {  # content of a YAML file -> a part of train.py's sentence
    "OPTIM: {LR: 1.0}\nOPTIM: {LR: 2.0}": "line 2: the key 'OPTIM' is given twice, first in line 1",
    "OPTIM:\n  LR: 1.0\n  LR: 2.0": "line 3: the key 'LR' is given twice",
    "1: 2": "line 1: the key '1' is not text",
    "true: 2": "line 1: the key 'true' is not text",
    "[a, b]: 2": "line 1: the key a list or mapping is not text",
    "OPTIM: &a [*a]": "line 1: a value contains itself",
    "OPTIM: !!set {LR}": "tag '!!set'",
    "OPTIM: !!python/object/apply:os.system [true]": "python/object/apply:os.system",
    'OUTPUT_DIR: "a\\0b"': "line 1: text with a NUL character",
    "OUTPUT_DIR: a\0b": "is not valid YAML",
    "_BASE_: nowhere.yaml": "no config file at",
    "_BASE_: x.yaml": "is its own _BASE_",
    "OPTIM: {LR: .nan}": "OPTIM.LR must be a number from 0",
    "OPTIM: {LR: .inf}": "OPTIM.LR must be a number from 0",
    "OPTIM: {LR: -.inf}": "OPTIM.LR must be a number from 0",
    "OPTIM: {MAX_EPOCH: 1.0}": "'OPTIM.MAX_EPOCH' must be an integer",
    "OPTIM: {MAX_EPOCH: 0x_}": "is not valid YAML",
    "OPTIM: {LR: 2024-13-99}": "'OPTIM.LR' must be a number",
    "OPTIM: 3": "'OPTIM' is a section of settings",
    "- OPTIM": "must have KEY: value lines",
    "--- {}\n--- {}": "is not valid YAML",
    "a: " + "[" * 200: "nested more than 50 times",
    "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    + "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)): (
        "aliases expand it to more than 100,000 values"
    ),
}


def sentence(
    main: Callable[[list[str]], int], words: list[str], capsys: pytest.CaptureFixture[str]
) -> str:
    """Check that a command ends with exit code 2 and one line on stderr; return the line."""
    capsys.readouterr()
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def training(tmp_path: Path) -> list[str]:
    """Return a valid train.py command, apart from its missing images."""
    return [
        *("--root", str(tmp_path), "--seed", "1", "--trainer", "CoOp"),
        *("--dataset-config-file", f"{CONFIGS}/datasets/caltech101.yaml"),
        *("--config-file", f"{CONFIGS}/trainers/CoOp/critters.yaml"),
        *("--output-dir", str(tmp_path / "out")),
    ]


@pytest.mark.parametrize("pairs", SETTINGS)
def test_wrong_setting(pairs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*training(tmp_path), *shlex.split(pairs)]
    assert SETTINGS[pairs] in sentence(train.main, words, capsys)


@pytest.mark.parametrize("flags", FLAGS)
def test_wrong_flag(flags: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*training(tmp_path), *shlex.split(flags)]  # the last of two equal flags counts
    assert FLAGS[flags] in sentence(train.main, words, capsys)


@pytest.mark.parametrize("content", FILES, ids=lambda text: repr(text[:40]))
def test_wrong_file(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.yaml").write_text(content)
    words = [*training(tmp_path), "--config-file", str(tmp_path / "x.yaml")]
    assert FILES[content] in sentence(train.main, words, capsys)


@pytest.mark.parametrize(("name", "line"), LINES)
def test_wrong_arguments(
    name: str,
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("scripts.runner.run_job.Children.run", _no_job)
    main, lines = PROGRAMS[name]
    assert lines[line] in sentence(main, shlex.split(line), capsys)


def _no_job(*args: object) -> int:
    raise AssertionError("a job was started")


@pytest.mark.parametrize("name", ["DATA", "OUTPUT"])
@pytest.mark.parametrize("value", ["a\0b", "~no-such-user-here/x"])
def test_wrong_folder_in_the_environment(
    name: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["coop", "base2new", "critters", "1", "--dry-run"]
    assert f"{name} takes a path" in sentence(lambda w: run.main(w, {name: value}), words, capsys)


def test_a_file_as_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    env = {"OUTPUT": str(tmp_path / "file"), "DATA": str(tmp_path)}
    words = ["coop", "base2new", "critters", "1"]
    error = sentence(lambda w: run.main(w, env), words, capsys)
    assert f"OUTPUT={tmp_path / 'file'} cannot be a folder" in error


def test_home_folders_of_the_environment_are_expanded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    words = ["coop", "base2new", "critters", "1", "--dry-run"]
    assert run.main(words, {"OUTPUT": "~/out"}) == 0
    assert f"--output-dir {tmp_path}/out/base2new" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"WORLD_SIZE": "x"}, "WORLD_SIZE is 'x' in the environment"),
        ({"WORLD_SIZE": "-1"}, "WORLD_SIZE is '-1'"),
        ({"WORLD_SIZE": "2"}, "RANK and MASTER_ADDR and MASTER_PORT not set"),
        ({"WORLD_SIZE": "2", "RANK": "a", "MASTER_ADDR": "h", "MASTER_PORT": "1"}, "RANK is 'a'"),
        ({"WORLD_SIZE": "2", "RANK": "2", "MASTER_ADDR": "h", "MASTER_PORT": "1"}, "RANK is '2'"),
        (
            {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "h", "MASTER_PORT": "p"},
            "MASTER_PORT is 'p'",
        ),
    ],
)
def test_wrong_processes(
    values: dict[str, str],
    part: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    assert part in sentence(train.main, training(tmp_path), capsys)


def test_the_catalogue_is_long() -> None:
    assert sum(map(len, (SETTINGS, FLAGS, FILES, LINES))) >= 160
