"""Heads in numbers, against what is known of extreme ones."""

import numpy as np
import pytest
import scipy.stats

from captioner_jax.explain.statistics import entropy, head_statistics


def test_entropy_from_its_definition():
    shares = np.random.default_rng(0).random((3, 4, 7))
    np.testing.assert_allclose(entropy(shares), scipy.stats.entropy(shares, base=2, axis=-1), rtol=1e-6)
    np.testing.assert_allclose(entropy(np.full((1, 8), 1 / 8)), 3)
    np.testing.assert_array_equal(entropy(np.eye(5)), 0)


def test_heads_that_look_everywhere_and_heads_that_look_at_one_cell():
    everywhere, one = np.full((3, 16), 1 / 16), np.eye(16)[:3]
    found = head_statistics(np.stack([everywhere, one])[None])
    np.testing.assert_allclose(found.entropy, [[4, 0]])
    np.testing.assert_allclose(found.largest, [[1 / 16, 1]])
    np.testing.assert_allclose(found.at_cells, 1)


@pytest.mark.parametrize("heads", [2, 4])
def test_heads_alike_are_not_apart_and_heads_that_share_no_cell_are_as_far_as_can_be(heads):
    alike = np.random.default_rng(0).random((1, 1, 3, 8)).repeat(heads, 1)
    np.testing.assert_allclose(head_statistics(alike).apart, 0, atol=1e-12)
    apart = np.eye(heads)[None, :, None, :].repeat(3, 2)
    np.testing.assert_allclose(head_statistics(apart).apart, np.log2(heads))


def test_words_that_share_a_softmax_with_cells_are_told():
    shares = np.full((1, 2, 3, 4), 0.1)
    np.testing.assert_allclose(head_statistics(shares).at_cells, 0.4)
    np.testing.assert_allclose(head_statistics(shares).entropy, 2)
