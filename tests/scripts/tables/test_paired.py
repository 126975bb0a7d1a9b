"""Paired differences against scipy's tests and loops."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from scripts.tables.render import paired_text
from scripts.tables.statistics import Paired, paired

values = st.lists(st.floats(-20, 20).map(lambda x: round(x, 4)), min_size=2, max_size=30)


@given(values)
@settings(max_examples=100, deadline=None)
def test_interval_and_sign_test_equal_those_of_scipy(differences):
    pairs = Paired(dict(enumerate(differences)))
    mean = sum(differences) / len(differences)
    assert pairs.mean == pytest.approx(mean, abs=1e-9)
    nonzero = [value for value in differences if value]
    higher = sum(value > 0 for value in nonzero)
    expected = stats.binomtest(higher, len(nonzero)).pvalue if nonzero else 1.0
    assert pairs.p_value == pytest.approx(expected, abs=1e-9)
    error = stats.sem(differences)
    low, high = stats.t.interval(0.95, len(differences) - 1, loc=mean, scale=error or 1.0)
    if not error:
        low = high = mean
    assert pairs.interval == pytest.approx((low, high), abs=1e-7)


@pytest.mark.parametrize("count", range(1, 9))
def test_sign_test_counts_coins(count):
    for higher in range(count + 1):
        pairs = Paired({i: 1.0 if i < higher else -1.0 for i in range(count)})
        extreme = max(higher, count - higher)
        sides = [sum(coins) for coins in itertools.product((0, 1), repeat=count)]
        hits = sum(max(side, count - side) >= extreme for side in sides)
        assert pairs.p_value == pytest.approx(hits / 2**count, abs=1e-12)
    assert Paired(dict.fromkeys(range(count), 1.0)).p_value == min(1.0, 2 / 2**count)


def test_interval_by_hand():
    pairs = Paired({1: 1.0, 2: 2.0, 3: 3.0})
    # t(2 df, 97.5 %) = 4.302653; deviation 1, so the error of the mean is 1 / sqrt(3)
    half = 4.302652729911275 / math.sqrt(3)
    assert pairs.interval == pytest.approx((2 - half, 2 + half), abs=1e-9)


def test_only_common_pairs_count_and_equal_ones_have_no_sign():
    pairs = paired({1: 70.0, 2: 70.0, 3: 80.0}, {3: 79.0, 1: 70.0, 4: 1.0})
    assert pairs.differences == {1: 0.0, 3: 1.0}
    assert (pairs.mean, pairs.higher, pairs.equal, pairs.p_value) == (0.5, 1, 1, 1.0)
    assert paired({1: 0.1 + 0.2}, {1: 0.3}).equal == 1


def test_text():
    assert paired_text(Paired({})) == "n/a"
    assert paired_text(Paired({1: -2.0})) == "-2.00 (0 of 1 higher, p 1)"
    assert paired_text(Paired({1: 1.0, 2: 3.0, 3: 2.0})) == (
        "+2.00 (-0.48 to 4.48; 3 of 3 higher, p 0.25)"
    )
    assert (
        paired_text(Paired({1: 0.0, 2: 0.0})) == "+0.00 (0.00 to 0.00; 0 of 2 higher, 2 equal, p 1)"
    )
