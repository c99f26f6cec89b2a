"""What maps are held against: rank correlation, and a model before training."""

import jax
import numpy as np
import scipy.stats

from captioner_jax.explain.randomisation import rank_correlation, unlearned
from tests.making import untrained


def test_rank_correlation_is_spearmans_with_and_without_ties():
    rng = np.random.default_rng(0)
    for a, b in [(rng.random(30), rng.random(30)), (rng.integers(0, 4, 30) / 1.0, rng.integers(0, 3, 30) / 1.0)]:
        expected = scipy.stats.spearmanr(a, b).statistic
        np.testing.assert_allclose(rank_correlation(a[None], b[None]), [expected], rtol=1e-6)
    np.testing.assert_allclose(rank_correlation(a[None], np.exp(a)[None]), 1)
    np.testing.assert_allclose(rank_correlation(a[None], -a[None]), -1)
    np.testing.assert_array_equal(rank_correlation(a[None], np.zeros((1, 30))), 0)


def test_a_model_before_training_has_the_same_parts_and_other_weights():
    one = untrained()
    blank, again = unlearned(one, 5), unlearned(one, 5)
    assert jax.tree.map(np.shape, blank) == jax.tree.map(np.shape, one.parameters)
    jax.tree.map(np.testing.assert_array_equal, blank, again)
    query = lambda parameters: parameters["decoder"]["blocks"][0]["cross_attention"]["w_q"]
    assert np.abs(query(blank) - query(one.parameters)).max() > 0.1
