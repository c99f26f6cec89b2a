"""Filters against their definitions, word by word."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from captioner_jax.generation.filters import min_p, temperature, top_k, top_p

P = np.array([0.4, 0.25, 0.0, 0.2, 0.1, 0.05])


def left(filter, p=P):
    with np.errstate(divide="ignore"):
        return np.exp(np.asarray(filter(jnp.log(jnp.asarray(p, jnp.float32))[None, None]))[0, 0])


def test_temperature_is_a_power():
    for tau in (0.5, 1.0, 3.0):
        np.testing.assert_allclose(left(temperature(tau)), P ** (1 / tau) / (P ** (1 / tau)).sum(), rtol=1e-4)


@pytest.mark.parametrize(
    ("filter", "kept"),
    [
        (top_k(1), [0]),
        (top_k(3), [0, 1, 3]),
        (top_k(99), [0, 1, 3, 4, 5]),
        (top_p(0.3), [0]),
        (top_p(0.5), [0, 1]),
        (top_p(0.9), [0, 1, 3, 4]),
        (top_p(1.0), [0, 1, 3, 4, 5]),
        (min_p(0.45), [0, 1, 3]),
        (min_p(1.0), [0]),
    ],
)
def test_the_right_words_are_kept_in_proportion(filter, kept):
    expected = np.where(np.isin(np.arange(6), kept), P, 0)
    np.testing.assert_allclose(left(filter), expected / expected.sum(), rtol=1e-4)


def test_the_order_of_words_does_not_matter():
    order = np.random.default_rng(0).permutation(6)
    for filter in (top_k(3), top_p(0.8), min_p(0.3)):
        np.testing.assert_allclose(left(filter, P[order]), left(filter)[order], rtol=1e-5)


def test_all_of_the_probability_is_all_words():
    """However it rounds."""
    log_p = jax.nn.log_softmax(3 * jax.random.normal(jax.random.key(0), (1, 20, 5000)))
    assert jnp.isfinite(top_p(1.0)(log_p)).all()
