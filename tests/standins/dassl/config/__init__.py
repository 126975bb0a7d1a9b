"""get_cfg_default with the keys that the trainers read, and the original's values."""

from yacs.config import CfgNode


def get_cfg_default():
    """Return a new config tree; like the original's, it has no sections of CoOp-style trainers."""
    return CfgNode(
        {
            "OUTPUT_DIR": "./output",
            "RESUME": "",
            "SEED": -1,
            "USE_CUDA": True,
            "INPUT": {
                "SIZE": (224, 224),
                "INTERPOLATION": "bilinear",
                "TRANSFORMS": (),
                "PIXEL_MEAN": [0.485, 0.456, 0.406],
                "PIXEL_STD": [0.229, 0.224, 0.225],
            },
            "DATASET": {"ROOT": "", "NAME": "", "NUM_SHOTS": -1},
            "DATALOADER": {
                "NUM_WORKERS": 4,
                "TRAIN_X": {"SAMPLER": "RandomSampler", "BATCH_SIZE": 32},
                "TEST": {"SAMPLER": "SequentialSampler", "BATCH_SIZE": 32},
            },
            "MODEL": {"INIT_WEIGHTS": "", "BACKBONE": {"NAME": "", "PRETRAINED": True}},
            "OPTIM": {"NAME": "adam", "LR": 0.0003, "MAX_EPOCH": 10, "WEIGHT_DECAY": 5e-4},
            "TRAIN": {"CHECKPOINT_FREQ": 0, "PRINT_FREQ": 10},
            "TEST": {"NO_TEST": False, "SPLIT": "test", "FINAL_MODEL": "last_step"},
            "TRAINER": {"NAME": ""},
        }
    )
