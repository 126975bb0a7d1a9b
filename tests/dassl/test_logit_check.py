"""Logits that are not finite end a test, and the message names the first image."""

import re

import pytest
import torch

from dassl.logit_check import LogitCheck
from dassl.utils import UsageError
from tests.dassl.coop_style import ToyCoOp, toy_cfg
from tests.trainers.host_reads import HostReads

NAN, INF = float("nan"), float("inf")
PATHS = {"impath": ["a.jpg", "b.jpg", "c.jpg"]}


@pytest.mark.parametrize("row", [[NAN, 1.0], [1.0, NAN], [NAN, INF], [INF, 1.0], [-INF, -INF]])
def test_first_image_is_named(row):
    check = LogitCheck()
    check.add(torch.ones(3, 2), PATHS)
    check.add(torch.ones(3, 2), PATHS)
    logits = torch.tensor([[1.0, 2.0], row, row])
    check.add(logits, PATHS)
    message = "the logits of 'b.jpg' (and of 1 more of 9 tested images) are NaN or infinite"
    with pytest.raises(UsageError, match=f"^{re.escape(message)}"):
        check.check()


def test_one_image_and_no_path():
    check = LogitCheck()
    with pytest.raises(UsageError, match=r"^the logits of 'image 2 of batch 1' are NaN or inf"):
        check.add(torch.tensor([[1.0], [NAN]]), {"img": None})


def test_classes_that_are_not_compared_may_be_minus_infinity():
    check = LogitCheck()
    check.add(torch.tensor([[1.0, -INF], [-INF, -3e38]]), PATHS)
    check.add(torch.tensor([[1, 2]]), PATHS)  # an output that is not logits
    check.add("output", PATHS)
    check.check()
    LogitCheck().check()


def test_the_host_waits_rarely():
    check = LogitCheck()
    logits, spoiled = torch.ones(1, 2), torch.full((1, 2), NAN)
    for _ in range(4):
        check.add(logits, PATHS)
    with HostReads() as reads:
        for _ in range(3):
            check.add(spoiled, PATHS)
    assert not reads.names
    with pytest.raises(UsageError, match=r"'a.jpg' \(and of 3 more of 8 tested images\)"):
        check.add(spoiled, PATHS)


class Overflowing(ToyCoOp):
    """A trainer with logits of NaN from its second test on."""

    tests = 0

    def test(self, split=None):
        self.tests += 1
        return super().test(split)

    def model_inference(self, input):
        return super().model_inference(input) * (NAN if self.tests > 1 else 1)


def test_the_selection_of_an_epoch_is_checked(tmp_path):
    trainer = Overflowing(toy_cfg(tmp_path, "TEST.FINAL_MODEL", "best_val"))
    with pytest.raises(UsageError, match="are NaN or infinite, so that they predict nothing"):
        trainer.train()
    assert (trainer.tests, trainer.epoch) == (2, 1)
