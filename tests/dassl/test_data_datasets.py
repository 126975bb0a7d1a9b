"""Datum, DatasetBase and few-shot sampling."""

from __future__ import annotations

import random

import pytest

from dassl.data.datasets import DatasetBase, Datum
from dassl.utils import UsageError


def images(labels, domain=0):
    return [Datum(f"{n}.jpg", label, domain, f"class {label}") for n, label in enumerate(labels)]


def test_datum():
    datum = Datum("a.jpg", 2, 1, "cat")
    assert (datum.impath, datum.label, datum.domain, datum.classname) == ("a.jpg", 2, 1, "cat")
    with pytest.raises(TypeError, match=r"impath must be a str, got a int"):
        Datum(3)


def test_classes_come_from_the_training_images():
    dataset = DatasetBase(train_x=images([3, 0, 1, 3]), val=images([0]), test=images([1]))
    assert dataset.num_classes == 4
    assert dataset.lab2cname == {0: "class 0", 1: "class 1", 3: "class 3"}
    assert dataset.classnames == ["class 0", "class 1", "class 3"]
    assert dataset.train_u is None


@pytest.mark.parametrize("train", [None, []])
def test_missing_training_images_raise(train):
    with pytest.raises(UsageError, match=r"DatasetBase has no training images"):
        DatasetBase(train_x=train)


def test_unknown_domains_raise():
    class Domains(DatasetBase):
        domains = ["photo", "sketch"]

    dataset = Domains(train_x=images([0]))
    dataset.check_input_domains(["photo"], ["sketch"])
    with pytest.raises(UsageError, match=r"Domains has no domain 'art': allowed: photo"):
        dataset.check_input_domains(["photo"], ["art"])


def test_shots_follow_the_order_of_first_appearance():
    source = images([1, 0, 1, 0, 1, 0, 2])
    random.seed(4)
    drawn = DatasetBase(train_x=source).generate_fewshot_dataset(source, num_shots=2)
    random.seed(4)
    ones, zeros = [source[i] for i in (0, 2, 4)], [source[i] for i in (1, 3, 5)]
    assert drawn == [*random.sample(ones, 2), *random.sample(zeros, 2), source[6]]


def test_shots_are_repeated_on_request():
    source = images([0, 1, 1, 1])
    random.seed(0)
    drawn = DatasetBase(train_x=source).generate_fewshot_dataset(source, num_shots=3, repeat=True)
    assert [item.label for item in drawn] == [0, 0, 0, 1, 1, 1]


def test_several_sources_give_several_lists(capsys):
    source = images([0, 0, 1])
    dataset = DatasetBase(train_x=source)
    first, second = dataset.generate_fewshot_dataset(source, source[:2], num_shots=1)
    assert (len(first), len(second)) == (2, 1)
    assert capsys.readouterr().out == "Creating a 1-shot dataset\n" * 2
    assert dataset.generate_fewshot_dataset(source, num_shots=-1) == source


def test_groups_by_label_and_domain():
    source = [*images([1, 0], domain=7), *images([1], domain=3)]
    by_label = DatasetBase.split_dataset_by_label(source)
    assert list(by_label) == [1, 0]
    assert by_label[1] == [source[0], source[2]]
    by_domain = DatasetBase.split_dataset_by_domain(source)
    assert {domain: len(items) for domain, items in by_domain.items()} == {7: 2, 3: 1}
