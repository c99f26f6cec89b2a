"""Entropies, by hand and against what no such model can beat."""

import math

import numpy as np
import pytest

from captioner_jax.evaluation.baselines import entropies
from captioner_jax.text.special import END, PAD, START


def test_by_hand():
    # Words 4, 5 and END, each a third of all; after START come 4 or 5 evenly, after these always END or 5.
    known = entropies([[START, 4, 5, END, PAD], [START, 5, END, PAD, PAD], [START, 4, 4, END, PAD]])
    shares = np.array([3, 2, 3]) / 8
    assert known.unigram == pytest.approx(-(shares * np.log(shares)).sum())
    after_start = -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3))
    after_4 = math.log(3)  # 5, 4 and END once each
    assert known.bigram == pytest.approx((3 * after_start + 3 * after_4 + 0) / 8)


def test_what_is_certain_has_none():
    assert entropies([[START, 4, END]] * 5).bigram == 0


def test_nothing_follows_where_a_caption_was_cut():
    """After 4 comes 5 both times; after 5 once 4, and once the end; what would come after the last 4 nobody knows."""
    assert entropies([[START, 4, 5, 4], [START, 4, 5, END]]).bigram == pytest.approx(2 * math.log(2) / 6)
