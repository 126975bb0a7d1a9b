"""Every setting and its default.

The tree has all keys of Dassl 0.6.3, those of its domain-adaptation and semi-supervised trainers
included, so that YAML files written for it merge unchanged. Additions of this project are marked.
"""

from yacs.config import CfgNode


def get_cfg_default() -> CfgNode:
    """Return a new config tree that the caller may change."""
    return CfgNode(
        {
            "VERSION": 1,
            "OUTPUT_DIR": "./output",  # log.txt, checkpoints, tensorboard
            "RESUME": "",  # folder of an earlier run to go on from; default: OUTPUT_DIR itself
            "SEED": -1,  # negative: not fixed
            "USE_CUDA": True,
            "VERBOSE": True,  # print details of trainer, data and backbone
            "INPUT": _input(),
            "DATASET": _dataset(),
            "DATALOADER": _dataloader(),
            "MODEL": _model(),
            "OPTIM": _optim(),
            "TRAIN": _train(),
            "TEST": _test(),
            "TRAINER": {"NAME": "", **_trainers_of_the_original()},
        }
    )


def _input() -> dict:
    return {
        "SIZE": (224, 224),  # height, width
        "INTERPOLATION": "bilinear",  # bilinear, bicubic or nearest
        "TRANSFORMS": (),  # names: dassl.data.transforms
        "NO_TRANSFORM": False,  # no transform at all, neither for training nor for testing
        "PIXEL_MEAN": [0.485, 0.456, 0.406],  # ImageNet's
        "PIXEL_STD": [0.229, 0.224, 0.225],
        "CROP_PADDING": 4,  # random_crop
        "RRCROP_SCALE": (0.08, 1.0),  # random_resized_crop: share of the area
        "CUTOUT_N": 1,
        "CUTOUT_LEN": 16,
        "GN_MEAN": 0.0,  # gaussian_noise
        "GN_STD": 0.15,
        "RANDAUGMENT_N": 2,
        "RANDAUGMENT_M": 10,
        "COLORJITTER_B": 0.4,  # brightness, contrast, saturation, hue
        "COLORJITTER_C": 0.4,
        "COLORJITTER_S": 0.4,
        "COLORJITTER_H": 0.1,
        "RGS_P": 0.2,  # randomgrayscale: probability
        "GB_P": 0.5,  # gaussian_blur: probability, and kernel size (odd)
        "GB_K": 21,
    }


def _dataset() -> dict:
    return {
        "ROOT": "",  # folder that holds the datasets' folders
        "NAME": "",
        "SOURCE_DOMAINS": (),
        "TARGET_DOMAINS": (),
        "NUM_LABELED": -1,  # labeled images in all (semi-supervised sets)
        "NUM_SHOTS": -1,  # training images of each class; negative or 0: all
        "VAL_PERCENT": 0.1,  # semi-supervised sets
        "STL10_FOLD": -1,
        "CIFAR_C_TYPE": "",
        "CIFAR_C_LEVEL": 1,
        "ALL_AS_UNLABELED": False,
    }


def _dataloader() -> dict:
    train = {
        "SAMPLER": "RandomSampler",
        "BATCH_SIZE": 32,
        "N_DOMAIN": 0,  # RandomDomainSampler: domains of a batch; 0 or less: all
        "N_INS": 16,  # RandomClassSampler: images of each class in a batch
    }
    return {
        "NUM_WORKERS": 4,
        "K_TRANSFORMS": 1,  # times that a training image is transformed
        "RETURN_IMG0": False,  # also return the image without augmentation
        # Ours: how many augmented views a training image has, which the epochs repeat in turn;
        # 0: every epoch draws new ones, as the original does.
        "VIEWS": 0,
        # Ours: a folder that keeps what frozen image towers compute (docs/feature_store.md).
        "FEATURE_STORE": "",
        "TRAIN_X": dict(train),
        "TRAIN_U": {"SAME_AS_X": True, **train},  # SAME_AS_X: use the settings of TRAIN_X
        "TEST": {"SAMPLER": "SequentialSampler", "BATCH_SIZE": 32},
    }


def _model() -> dict:
    return {
        "INIT_WEIGHTS": "",  # file of weights to start from
        "BACKBONE": {"NAME": "", "PRETRAINED": True},
        "HEAD": {"NAME": "", "HIDDEN_LAYERS": (), "ACTIVATION": "relu", "BN": True, "DROPOUT": 0.0},
    }


def _optim() -> dict:
    return {
        "NAME": "adam",  # sgd, adam, amsgrad, adamw, radam or rmsprop
        "LR": 0.0003,
        "WEIGHT_DECAY": 5e-4,
        "MOMENTUM": 0.9,  # sgd and rmsprop
        "SGD_DAMPNING": 0,
        "SGD_NESTEROV": False,
        "RMSPROP_ALPHA": 0.99,
        "ADAM_BETA1": 0.9,  # adam and its relatives
        "ADAM_BETA2": 0.999,
        "STAGED_LR": False,  # layers other than NEW_LAYERS learn at LR * BASE_LR_MULT
        "NEW_LAYERS": (),
        "BASE_LR_MULT": 0.1,
        "LR_SCHEDULER": "single_step",  # single_step, multi_step or cosine
        "STEPSIZE": (-1,),  # epochs; single_step takes the last one, 0 or less: MAX_EPOCH
        "GAMMA": 0.1,
        "MAX_EPOCH": 10,
        "WARMUP_EPOCH": -1,  # epochs of warm-up; 0 or less: none
        "WARMUP_TYPE": "linear",  # linear or constant
        "WARMUP_CONS_LR": 1e-5,  # the constant lr
        "WARMUP_MIN_LR": 1e-5,  # the first epoch's lr of a linear warm-up
        "WARMUP_RECOUNT": True,  # the schedule after the warm-up starts at its own epoch 0
    }


def _train() -> dict:
    return {
        "CHECKPOINT_FREQ": 0,  # epochs; 0 or less: only the last one
        "PRINT_FREQ": 10,  # batches
        "COUNT_ITER": "train_x",  # train_x, train_u or smaller_one: whose batches make an epoch
    }


def _test() -> dict:
    return {
        "EVALUATOR": "Classification",
        "PER_CLASS_RESULT": False,
        "COMPUTE_CMAT": False,  # save the confusion matrix as OUTPUT_DIR/cmat.pt
        "NO_TEST": False,
        "SPLIT": "test",  # split of the final evaluation: test or val
        "FINAL_MODEL": "last_step",  # last_step, or best_val: the epoch that is best on val
        # Ours: best_val may choose by test images where a dataset has no val images of its own.
        # The original did so unasked.
        "SELECT_ON_TEST": False,
    }


def _trainers_of_the_original() -> dict:
    """Settings of trainers that are out of scope here, so that old files still merge."""
    return {
        "MCD": {"N_STEP_F": 4},
        "MME": {"LMDA": 0.1},
        "CDAC": {
            "CLASS_LR_MULTI": 10,
            "RAMPUP_COEF": 30,
            "RAMPUP_ITRS": 1000,
            "TOPK_MATCH": 5,
            "P_THRESH": 0.95,
            "STRONG_TRANSFORMS": (),
        },
        "SE": {"EMA_ALPHA": 0.999, "CONF_THRE": 0.95, "RAMPUP": 300},
        "M3SDA": {"LMDA": 0.5, "N_STEP_F": 4},
        "DAEL": {"WEIGHT_U": 0.5, "CONF_THRE": 0.95, "STRONG_TRANSFORMS": ()},
        "CROSSGRAD": {"EPS_F": 1.0, "EPS_D": 1.0, "ALPHA_F": 0.5, "ALPHA_D": 0.5},
        "DDAIG": {
            "G_ARCH": "",
            "LMDA": 0.3,
            "CLAMP": False,
            "CLAMP_MIN": -1.0,
            "CLAMP_MAX": 1.0,
            "WARMUP": 0,
            "ALPHA": 0.5,
        },
        "DAELDG": {"WEIGHT_U": 0.5, "CONF_THRE": 0.95, "STRONG_TRANSFORMS": ()},
        "DOMAINMIX": {"TYPE": "crossdomain", "ALPHA": 1.0, "BETA": 1.0},
        "ENTMIN": {"LMDA": 1e-3},
        "MEANTEACHER": {"WEIGHT_U": 1.0, "EMA_ALPHA": 0.999, "RAMPUP": 5},
        "MIXMATCH": {"WEIGHT_U": 100.0, "TEMP": 2.0, "MIXUP_BETA": 0.75, "RAMPUP": 20000},
        "FIXMATCH": {"WEIGHT_U": 1.0, "CONF_THRE": 0.95, "STRONG_TRANSFORMS": ()},
    }
