"""Loaders: batches depend only on (seed, epoch, image)."""

from __future__ import annotations

import os
import pickle
import random
import signal

import numpy as np
import pytest
import torch
from torchvision.transforms import ToTensor

from dassl.data import DataManager, DatasetWrapper, data_manager
from dassl.data.data_manager import build_data_loader
from dassl.data.datasets import build_dataset
from dassl.data.transforms.transforms import AVAI_CHOICES
from dassl.utils import UsageError, get_random_state
from dassl.utils.failures import describe_failure
from dassl.utils.random_state import seeded
from datasets.caltech101 import Caltech101
from tests.toy_data import caltech101, data_config

AUGMENTED = {"INPUT.TRANSFORMS": ("random_resized_crop", "random_flip", "cutout", "colorjitter")}

ONE_PIXEL = b"P6 1 1 255 abc"

FIXED = ("normalize", "instance_norm", "center_crop")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    caltech101(folder, classes=4, train=4, val=1, test=2)
    return folder


def manager(root, options=None, **kwargs):
    return DataManager(data_config(root, "Caltech101", options), **kwargs)


def test_a_batch(root):
    dm = manager(root)
    batch = next(iter(dm.train_loader_x))
    assert set(batch) == {"img", "label", "domain", "impath", "index"}
    assert batch["img"].shape == (4, 3, 32, 32)
    assert batch["domain"].tolist() == [0] * 4
    for label, impath, index in zip(
        batch["label"].tolist(), batch["impath"], batch["index"].tolist(), strict=True
    ):
        item = dm.dataset.train_x[index]
        assert (item.label, item.impath) == (label, impath)


def test_attributes(root):
    dm = manager(root)
    assert (dm.num_classes, dm.num_source_domains) == (4, 0)
    assert dm.lab2cname == {0: "face", 1: "leopard", 2: "motorbike", 3: "accordion"}
    assert dm.train_loader_u is None
    assert [len(dm.train_loader_x), len(dm.val_loader), len(dm.test_loader)] == [4, 1, 2]


def test_all_test_images_are_served_in_order(root):
    dm = manager(root, {"DATALOADER.TEST.BATCH_SIZE": 3})
    batches = [batch["index"].tolist() for batch in dm.test_loader]
    assert batches == [[0, 1, 2], [3, 4, 5], [6, 7]]


@pytest.mark.parametrize(("batch_size", "sizes"), [(16, [16]), (5, [5] * 3), (17, [16])])
def test_last_incomplete_batch_of_training(batch_size, sizes, root):
    dm = manager(root, {"DATALOADER.TRAIN_X.BATCH_SIZE": batch_size})
    assert [len(batch["label"]) for batch in dm.train_loader_x] == sizes
    assert len(dm.train_loader_x) == len(sizes)


def epoch_of(dm, epoch):
    dm.set_epoch(epoch)
    batches = list(dm.train_loader_x)
    return torch.cat([b["index"] for b in batches]), torch.cat([b["img"] for b in batches])


def assert_same(first, second):
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)


def test_workers_do_not_change_the_batches(root):
    alone = manager(root, AUGMENTED)
    with_two = manager(root, {**AUGMENTED, "DATALOADER.NUM_WORKERS": 2})
    for epoch in range(2):
        assert_same(epoch_of(alone, epoch), epoch_of(with_two, epoch))


def test_epochs_differ_and_can_be_repeated(root):
    dm = manager(root, AUGMENTED)
    first, second = epoch_of(dm, 0), epoch_of(dm, 1)
    assert not torch.equal(first[0], second[0])
    in_order = [images[index.argsort()] for index, images in (first, second)]
    assert not torch.equal(*in_order), "the augmentations are those of the epoch before"
    assert_same(first, epoch_of(dm, 0))
    # A run that starts at a later epoch, as after an interruption.
    assert_same(second, epoch_of(manager(root, AUGMENTED), 1))


def test_seeds_differ(root):
    first = epoch_of(manager(root, AUGMENTED), 0)
    second = epoch_of(manager(root, {**AUGMENTED, "SEED": 2}), 0)
    assert not torch.equal(first[0], second[0])


def test_evaluation_and_global_random_draws_do_not_change_training(root):
    quiet, busy = manager(root, AUGMENTED), manager(root, AUGMENTED)
    expected = epoch_of(quiet, 3)
    list(busy.val_loader)
    list(busy.test_loader)
    random.random(), np.random.rand(), torch.rand(3)
    assert_same(expected, epoch_of(busy, 3))


@pytest.mark.parametrize("workers", [0, 1])
def test_iterating_does_not_use_the_global_generators(workers, root):
    dm = manager(root, {**AUGMENTED, "DATALOADER.NUM_WORKERS": workers})
    before = get_random_state()
    epoch_of(dm, 0)
    list(dm.test_loader)
    after = get_random_state()
    assert before["python"] == after["python"]
    assert torch.equal(before["torch"], after["torch"])
    assert torch.equal(before["numpy"][1], after["numpy"][1])


def test_a_second_pass_in_an_epoch_differs_and_can_be_repeated(root):
    dm = manager(root, AUGMENTED)
    dm.set_epoch(5)
    first, second = (torch.cat([b["img"] for b in dm.train_loader_x]) for _ in range(2))
    assert not torch.equal(first, second)
    dm.set_epoch(5)
    again = [torch.cat([b["img"] for b in dm.train_loader_x]) for _ in range(2)]
    assert torch.equal(again[0], first)
    assert torch.equal(again[1], second)


def in_order(dm, epoch):
    index, images = epoch_of(dm, epoch)
    return images[index.argsort()]


@pytest.mark.parametrize("workers", [0, 2])
def test_views_repeat_and_the_order_does_not(root, workers):
    options = {**AUGMENTED, "DATALOADER.VIEWS": 2, "DATALOADER.NUM_WORKERS": workers}
    dm, fresh = manager(root, options), manager(root, AUGMENTED)
    views = [in_order(dm, epoch) for epoch in range(5)]
    for epoch in range(5):
        # View v is that of epoch v without the setting.
        assert torch.equal(views[epoch], in_order(fresh, epoch % 2))
        assert torch.equal(epoch_of(dm, epoch)[0], epoch_of(fresh, epoch)[0])
    assert not torch.equal(views[0], views[1])
    assert not torch.equal(epoch_of(dm, 0)[0], epoch_of(dm, 2)[0])


def test_views_do_not_depend_on_how_often_a_loader_ran(root):
    dm = manager(root, {**AUGMENTED, "DATALOADER.VIEWS": 3})
    dm.set_epoch(4)
    passes = [next(iter(dm.train_loader_x)) for _ in range(2)]
    assert not torch.equal(passes[0]["index"], passes[1]["index"])
    view = in_order(dm, 1)
    for batch in passes:
        assert torch.equal(batch["img"], view[batch["index"]])


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("sampler", ["RandomSampler", "RandomClassSampler"])
def test_order_matches_the_batches(root, sampler, workers):
    options = {
        "DATALOADER.TRAIN_X.SAMPLER": sampler,
        "DATALOADER.TRAIN_X.N_INS": 2,
        "DATALOADER.NUM_WORKERS": workers,
    }
    loader, ordered = (manager(root, options).train_loader_x for _ in range(2))
    for epoch in (0, 3):
        for each in (loader, ordered):
            each.set_epoch(epoch)
        for _ in range(2):  # passes of an epoch
            assert list(ordered.order()) == [batch["index"].tolist() for batch in loader]


@pytest.mark.parametrize(
    ("names", "augmented"),
    [
        (("normalize",), False),
        (("normalize", "instance_norm", "center_crop"), False),
        *(((name,), True) for name in AVAI_CHOICES if name not in FIXED),
    ],
)
def test_augmented_property(root, names, augmented):
    loader = manager(root, {"INPUT.TRANSFORMS": names}).train_loader_x
    assert (loader.augmented, loader.views) == (augmented, 0 if augmented else 1)
    assert " at 0x" not in repr(loader.dataset.transform)


def test_views_need_a_wrapper_that_can_repeat_them(root):
    def wrapper(cfg, source, transform, is_train):
        return [0] * len(source)

    with pytest.raises(UsageError, match=r"VIEWS is 2, but list has no set_stream.*set it to 0"):
        manager(root, {"DATALOADER.VIEWS": 2}, dataset_wrapper=wrapper)


def test_negative_seed_uses_torchs_seed(root):
    torch.manual_seed(7)
    first = epoch_of(manager(root, {**AUGMENTED, "SEED": -1}), 0)
    torch.manual_seed(7)
    assert_same(first, epoch_of(manager(root, {**AUGMENTED, "SEED": -1}), 0))
    torch.manual_seed(8)
    other = epoch_of(manager(root, {**AUGMENTED, "SEED": -1}), 0)
    assert not torch.equal(first[1], other[1])


def test_seeded_restores_the_generators_after_an_error():
    before = get_random_state()

    def fail():
        with seeded(1, 2):
            raise KeyError(random.random(), np.random.rand(), torch.rand(1))

    with pytest.raises(KeyError):
        fail()
    after = get_random_state()
    assert before["python"] == after["python"]
    assert torch.equal(before["torch"], after["torch"])
    assert torch.equal(before["numpy"][1], after["numpy"][1])


def test_img0_is_the_image_without_augmentation(root):
    options = {**AUGMENTED, "INPUT.SIZE": (16, 24), "DATALOADER.RETURN_IMG0": True}
    train = manager(root, options).train_loader_x.dataset
    assert train[0]["img0"].shape == (3, 16, 24)
    plain = manager(root, {"INPUT.SIZE": (16, 24), "INPUT.TRANSFORMS": ()}).train_loader_x.dataset
    assert torch.equal(train[0]["img0"], plain[0]["img"])


def test_img0_is_normalized_like_the_others(root):
    train = manager(root, {"DATALOADER.RETURN_IMG0": True}).train_loader_x.dataset
    assert torch.equal(train[0]["img0"], train[0]["img"])


def test_k_transforms_give_lists_in_training_only(root):
    dm = manager(root, {**AUGMENTED, "DATALOADER.K_TRANSFORMS": 3})
    views = next(iter(dm.train_loader_x))["img"]
    assert [view.shape for view in views] == [(4, 3, 32, 32)] * 3
    assert not torch.equal(views[0], views[1])
    assert next(iter(dm.test_loader))["img"].shape == (4, 3, 32, 32)


def test_k_transforms_need_a_transform(root):
    with pytest.raises(UsageError, match=r"K_TRANSFORMS is 2, but there is no transform"):
        manager(root, {"INPUT.NO_TRANSFORM": True, "DATALOADER.K_TRANSFORMS": 2})


def test_item_without_transform_is_the_image(root):
    dm = manager(root, {"INPUT.NO_TRANSFORM": True})
    assert dm.test_loader.dataset[0]["img"].size == (32, 32)


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_without_transform_are_refused(workers, root):
    dm = manager(root, {"INPUT.NO_TRANSFORM": True, "DATALOADER.NUM_WORKERS": workers})
    with pytest.raises(UsageError, match=r"set INPUT.NO_TRANSFORM to False"):
        next(iter(dm.test_loader))


def test_killed_worker_is_an_error_of_the_machine(root):
    class Killed(DatasetWrapper):
        def __getitem__(self, idx):
            os.kill(os.getpid(), signal.SIGKILL)

    dm = manager(root, {"DATALOADER.NUM_WORKERS": 1}, dataset_wrapper=Killed)
    with pytest.raises(RuntimeError) as error:
        list(dm.test_loader)
    text, code = describe_failure(error.value)
    assert code == 74
    assert text.startswith("a process that loads images was killed, probably because memory ran")
    assert "lower DATALOADER.NUM_WORKERS" in text
    assert "\n" not in text


@pytest.mark.parametrize("workers", [0, 1])
def test_error_in_a_worker_is_one_sentence(workers, broken):
    root = broken("image_0001.jpg")
    options = {"DATALOADER.NUM_WORKERS": workers}
    dm = manager(root, options, dataset_wrapper=DatasetWrapper)  # not checked before
    with pytest.raises(UsageError) as error:
        list(dm.train_loader_x)
    text, code = describe_failure(error.value)
    assert code == 2
    assert text.startswith(f"cannot read the image '{root}/caltech-101")
    assert "\n" not in text


def test_a_list_of_transforms_gives_several_views(root, capsys):
    dm = manager(root, custom_tfm_train=[ToTensor(), lambda image: 1 - ToTensor()(image)])
    batch = next(iter(dm.train_loader_x))
    torch.testing.assert_close(batch["img"], 1 - batch["img2"])
    assert "* Using custom transform for training" in capsys.readouterr().out


def test_custom_test_transform(root, capsys):
    dm = manager(root, custom_tfm_test=lambda image: torch.full((1,), 7.0))
    assert next(iter(dm.val_loader))["img"].tolist() == [[7.0]] * 4
    assert "* Using custom transform for testing" in capsys.readouterr().out


def test_custom_wrapper(root):
    class Plain(torch.utils.data.Dataset):
        """A dataset without set_stream."""

        def __init__(self, cfg, data_source, transform=None, is_train=False):
            self.data_source = data_source

        def __len__(self):
            return len(self.data_source)

        def __getitem__(self, idx):
            return {"label": self.data_source[idx].label}

    dm = manager(root, dataset_wrapper=Plain)
    dm.set_epoch(1)
    assert next(iter(dm.train_loader_x)).keys() == {"label"}


def test_wrapper_can_be_pickled_for_spawned_workers(root):
    names = ("randaugment", "randaugment2", "randaugment_fixmatch", "gaussian_blur", "cutout")
    wrapper = manager(root, {"INPUT.TRANSFORMS": names}).train_loader_x.dataset
    copy = pickle.loads(pickle.dumps(wrapper))
    assert torch.equal(copy[3]["img"], wrapper[3]["img"])


@pytest.mark.parametrize("sampler", ["RandomClassSampler", "RandomDomainSampler"])
def test_samplers_are_taken_from_the_config(sampler, root):
    options = {"DATALOADER.TRAIN_X.SAMPLER": sampler, "DATALOADER.TRAIN_X.N_INS": 2}
    dm = manager(root, options)
    labels = [batch["label"].tolist() for batch in dm.train_loader_x]
    assert len(labels) == len(dm.train_loader_x) == 4
    if sampler == "RandomClassSampler":
        assert all(len(set(batch)) == 2 for batch in labels)


@pytest.mark.parametrize(("same", "batch_size"), [(True, 4), (False, 2)])
def test_unlabeled_images_have_a_loader(same, batch_size, root, monkeypatch):
    dataset = build_dataset(data_config(root, "Caltech101"))
    monkeypatch.setattr(type(dataset), "train_u", property(lambda self: self.train_x))
    options = {
        "DATALOADER.TRAIN_U.SAME_AS_X": same,
        "DATALOADER.TRAIN_U.BATCH_SIZE": 2,
    }
    dm = manager(root, options)
    assert len(next(iter(dm.train_loader_u))["label"]) == batch_size


def test_loader_without_images(root):
    cfg = data_config(root, "Caltech101")
    with pytest.raises(UsageError, match=r"there are no test images to load"):
        build_data_loader(cfg, data_source=[], is_train=False)


def test_build_data_loader(root):
    cfg = data_config(root, "Caltech101")
    source = build_dataset(cfg).test
    loader = build_data_loader(cfg, data_source=source, batch_size=3, is_train=False)
    assert isinstance(loader.dataset, DatasetWrapper)
    assert len(loader) == 3


def test_summary_in_the_log(root, capsys):
    manager(root, {"DATASET.SOURCE_DOMAINS": ("a", "b"), "DATASET.TARGET_DOMAINS": ("c",)})
    log = capsys.readouterr().out
    table = """\
---------  ----------
Dataset    Caltech101
Source     a, b
Target     c
# classes  4
# train_x  16
# val      4
# test     8
---------  ----------
"""
    assert table in log
    assert "Building transform_train" in log


def test_quiet(root, capsys):
    manager(root, {"VERBOSE": False})
    log = capsys.readouterr().out
    assert "# classes" not in log
    assert "Loading dataset" not in log


def test_length_and_index_of_a_wrapper(root):
    wrapper = manager(root).train_loader_x.dataset
    assert [wrapper[index]["index"] for index in range(len(wrapper))] == list(range(16))
    assert torch.equal(wrapper[-1]["img"], wrapper[15]["img"])


@pytest.fixture
def broken(tmp_path):
    """Create a dataset; return a function that damages one of its images, and the folder."""
    caltech101(tmp_path, classes=2, train=4, val=2, test=2)

    def damage(name, content=b"not an image"):
        (path,) = tmp_path.glob(f"caltech-101/*/Faces/{name}")
        path.write_bytes(content)
        return tmp_path

    return damage


# of the training, validation and test images
@pytest.mark.parametrize("name", ["image_0001.jpg", "image_0005.jpg", "image_0008.jpg"])
def test_unreadable_image_is_named_before_the_training(name, broken):
    with pytest.raises(UsageError, match=rf"cannot read the image '.*{name}' \(it is not an image"):
        manager(broken(name))


def test_all_unreadable_images_are_counted(broken):
    broken("image_0008.jpg")
    with pytest.raises(UsageError, match=r"image_0002.*; in all 2 of 16 images"):
        manager(broken("image_0002.jpg"))


def test_checked_images_are_spread_evenly(broken, monkeypatch):
    root, seen = broken("image_0001.jpg"), []
    monkeypatch.setattr(data_manager, "CHECKED_IMAGES", 4)
    monkeypatch.setattr(data_manager, "require_readable", seen.append)
    dm = manager(root)
    (paths,) = seen
    everything = [*dm.dataset.train_x, *dm.dataset.val, *dm.dataset.test]
    assert paths == [item.impath for item in everything[::4]]


def test_checking_images_uses_no_random_numbers(broken):
    dataset = build_dataset(data_config(broken("image_0001.jpg", ONE_PIXEL), "Caltech101"))
    before = get_random_state()
    data_manager.check_images(dataset)
    after = get_random_state()
    assert before["python"] == after["python"]
    assert torch.equal(before["torch"], after["torch"])
    assert torch.equal(before["numpy"][1], after["numpy"][1])


def test_images_of_another_wrapper_and_trusted_images_are_not_checked(broken, monkeypatch):
    root = broken("image_0001.jpg")
    manager(root, dataset_wrapper=DatasetWrapper)
    monkeypatch.setattr(Caltech101, "trusted_images", True)
    manager(root)
