"""The config tree: every setting and its default.

The tree has all keys of Dassl 0.6.3, including those of its domain-adaptation and semi-supervised
trainers, so that YAML files written for it can be merged. Keys added here are marked.
"""

from typing import Any

from yacs.config import CfgNode


def get_cfg_default() -> CfgNode:
    """Return a new config tree."""
    return CfgNode(_DEFAULTS)


_TRAIN_LOADER = {
    "SAMPLER": "RandomSampler",
    "BATCH_SIZE": 32,
    "N_DOMAIN": 0,  # RandomDomainSampler: domains per batch; 0 or less: all
    "N_INS": 16,  # RandomClassSampler: images per class in a batch
}

# Settings of trainers that are out of scope here.
_TRAINERS_OF_DASSL: dict[str, Any] = {
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

_DEFAULTS: dict[str, Any] = {
    "VERSION": 1,
    "OUTPUT_DIR": "./output",  # log.txt, checkpoints, tensorboard
    "RESUME": "",  # folder of a run to resume; default: OUTPUT_DIR
    "SEED": -1,  # negative: not fixed
    "USE_CUDA": True,
    "VERBOSE": True,  # print details of trainer, data and backbone
    "INPUT": {
        "SIZE": (224, 224),  # height, width
        "INTERPOLATION": "bilinear",  # bilinear, bicubic or nearest
        "TRANSFORMS": (),  # names: dassl.data.transforms
        "NO_TRANSFORM": False,  # use no transform in training and testing
        "PIXEL_MEAN": [0.485, 0.456, 0.406],  # ImageNet's
        "PIXEL_STD": [0.229, 0.224, 0.225],
        "CROP_PADDING": 4,  # random_crop
        "RRCROP_SCALE": (0.08, 1.0),  # random_resized_crop: fraction of the area
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
    },
    "DATASET": {
        "ROOT": "",  # folder that contains the datasets
        "NAME": "",
        "SOURCE_DOMAINS": (),
        "TARGET_DOMAINS": (),
        "NUM_LABELED": -1,  # labeled images in total (semi-supervised)
        "NUM_SHOTS": -1,  # training images per class; 0 or less: all
        "VAL_PERCENT": 0.1,  # semi-supervised
        "STL10_FOLD": -1,
        "CIFAR_C_TYPE": "",
        "CIFAR_C_LEVEL": 1,
        "ALL_AS_UNLABELED": False,
    },
    "DATALOADER": {
        "NUM_WORKERS": 4,
        "K_TRANSFORMS": 1,  # transformed copies of each training image
        "RETURN_IMG0": False,  # also return the image without augmentation
        # Added here: number of augmented views per training image, which epochs cycle through;
        # 0: every epoch samples new ones, like the original.
        "VIEWS": 0,
        # Added here: folder for the features of frozen image encoders (docs/feature_store.md).
        "FEATURE_STORE": "",
        "TRAIN_X": _TRAIN_LOADER,
        "TRAIN_U": {"SAME_AS_X": True, **_TRAIN_LOADER},  # SAME_AS_X: use the settings of TRAIN_X
        "TEST": {"SAMPLER": "SequentialSampler", "BATCH_SIZE": 32},
    },
    "MODEL": {
        "INIT_WEIGHTS": "",  # file of weights to start from
        "BACKBONE": {"NAME": "", "PRETRAINED": True},
        "HEAD": {"NAME": "", "HIDDEN_LAYERS": (), "ACTIVATION": "relu", "BN": True, "DROPOUT": 0.0},
    },
    "OPTIM": {
        "NAME": "adam",  # sgd, adam, amsgrad, adamw, radam or rmsprop
        "LR": 0.0003,
        "WEIGHT_DECAY": 5e-4,
        "MOMENTUM": 0.9,  # sgd and rmsprop
        "SGD_DAMPNING": 0,
        "SGD_NESTEROV": False,
        "RMSPROP_ALPHA": 0.99,
        "ADAM_BETA1": 0.9,  # adam, amsgrad, adamw, radam
        "ADAM_BETA2": 0.999,
        "ADAM_EPS": 1e-8,
        "STAGED_LR": False,  # layers other than NEW_LAYERS use LR * BASE_LR_MULT
        "NEW_LAYERS": (),
        "BASE_LR_MULT": 0.1,
        "LR_SCHEDULER": "single_step",  # single_step, multi_step or cosine
        "STEPSIZE": (-1,),  # epochs; single_step uses the last one; 0 or less: MAX_EPOCH
        "GAMMA": 0.1,
        "MAX_EPOCH": 10,
        "WARMUP_EPOCH": -1,  # warm-up epochs; 0 or less: none
        "WARMUP_TYPE": "linear",  # linear or constant
        "WARMUP_CONS_LR": 1e-5,  # learning rate of a constant warm-up
        "WARMUP_MIN_LR": 1e-5,  # learning rate of the first epoch of a linear warm-up
        "WARMUP_RECOUNT": True,  # the schedule starts at its epoch 0 after the warm-up
    },
    "TRAIN": {
        "CHECKPOINT_FREQ": 0,  # epochs; 0 or less: only the last one
        "PRINT_FREQ": 10,  # batches
        "COUNT_ITER": "train_x",  # loader that defines an epoch: train_x, train_u or smaller_one
    },
    "TEST": {
        "EVALUATOR": "Classification",
        "PER_CLASS_RESULT": False,
        "COMPUTE_CMAT": False,  # save the confusion matrix as OUTPUT_DIR/cmat.{pt,json,csv}
        "NO_TEST": False,
        "SPLIT": "test",  # split of the final evaluation: test or val
        "FINAL_MODEL": "last_step",  # last_step (or last_val), or best_val: the best epoch on val
        # Added here: let best_val select on test images if a dataset has no val images, as the
        # original does.
        "SELECT_ON_TEST": False,
    },
    "TRAINER": {"NAME": "", **_TRAINERS_OF_DASSL},
}
