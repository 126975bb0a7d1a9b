"""A dataset file as CoOp users write them; the tests drop it into datasets/ as it is."""

import os
import pickle

from dassl.data.datasets import DATASET_REGISTRY, DatasetBase, Datum
from dassl.utils import listdir_nohidden, mkdir_if_missing, read_json

from .dtd import DescribableTextures as DTD
from .oxford_pets import OxfordPets

RENAMED = {"yin_yang": "taijitu"}


@DATASET_REGISTRY.register()
class MyObjects(DatasetBase):
    dataset_dir = "my_objects"

    def __init__(self, cfg):
        root = os.path.abspath(os.path.expanduser(cfg.DATASET.ROOT))
        self.dataset_dir = os.path.join(root, self.dataset_dir)
        self.image_dir = os.path.join(self.dataset_dir, "pictures")
        self.split_path = os.path.join(self.dataset_dir, "split_me_MyObjects.json")
        self.fewshot_dir = os.path.join(self.dataset_dir, "split_fewshot")
        mkdir_if_missing(self.fewshot_dir)

        if os.path.exists(self.split_path):
            train, val, test = OxfordPets.read_split(self.split_path, self.image_dir)
        else:
            train, val, test = DTD.read_and_split_data(
                self.image_dir, p_trn=0.5, p_val=0.25, ignored=["junk"], new_cnames=RENAMED
            )
            OxfordPets.save_split(train, val, test, self.split_path, self.image_dir)
        self.checked = len(read_json(self.split_path)["train"]) == len(train)
        self.folders = listdir_nohidden(self.image_dir, sort=True)

        shots = cfg.DATASET.NUM_SHOTS
        if shots >= 1:
            cached = os.path.join(self.fewshot_dir, f"shot_{shots}-seed_{cfg.SEED}.pkl")
            if os.path.exists(cached):
                with open(cached, "rb") as f:
                    data = pickle.load(f)
                train, val = data["train"], data["val"]
            else:
                train = self.generate_fewshot_dataset(train, num_shots=shots)
                val = self.generate_fewshot_dataset(val, num_shots=min(shots, 4))
                with open(cached, "wb") as f:
                    pickle.dump({"train": train, "val": val}, f, protocol=4)

        train, val, test = OxfordPets.subsample_classes(
            train, val, test, subsample=cfg.DATASET.SUBSAMPLE_CLASSES
        )
        unlabeled = [Datum(impath=i.impath, label=-1, classname="") for i in train]
        super().__init__(train_x=train, train_u=unlabeled, val=val, test=test)
