"""A number draws the word in whose share it lies, and even numbers draw each beginning as often as it is likely."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from captioner_jax.generation.arithmetic import Codes, even_codes, read_word, refreshed
from captioner_jax.generation.search import sample_evenly
from tests.generation.test_search import KEYS, T, ensemble, every_caption, log_probabilities, make

N = 4096


def some_log_p(vocabulary, forbidden=0.3):
    rng = np.random.default_rng(vocabulary)
    logits = 3 * rng.normal(size=vocabulary)
    logits[rng.random(vocabulary) < forbidden] = -np.inf
    logits[0] = -np.inf
    return logits - np.log(np.exp(logits).sum())


def everywhere():
    """A grid of numbers, with a width that words have narrowed before."""
    at = (np.arange(N) + 0.5) / N
    return Codes(jnp.asarray(at, jnp.float32), jnp.full(N, 0.5))


@pytest.mark.parametrize("scale", [1.0, 200.0])
@pytest.mark.parametrize("vocabulary", [5, 64, 65, 185])
def test_a_number_reads_the_word_in_whose_share_it_lies(vocabulary, scale):
    log_p = scale * some_log_p(vocabulary)
    words, codes = jax.jit(read_word)(jnp.broadcast_to(jnp.asarray(log_p, jnp.float32), (N, vocabulary)), everywhere())
    p = np.exp(log_p - log_p.max())
    p /= p.sum()
    ends, at = np.cumsum(p), np.asarray(everywhere().at, np.float64)
    near = np.abs(at[:, None] - ends).min(1) < 1e-6  # of a border: rounding decides
    words = np.asarray(words)
    expected = np.searchsorted(ends, at)
    np.testing.assert_array_equal(words[~near], expected[~near])
    assert np.isfinite(log_p[words]).all()
    wide = ~near & (p[expected] > 1e-3)
    np.testing.assert_allclose(codes.width[wide], 0.5 * p[expected[wide]], rtol=1e-4)
    rest = (at - (ends - p)[expected]) / p[expected]
    np.testing.assert_allclose(codes.at[wide], rest[wide], atol=2e-3)


def test_what_is_certain_is_read_by_any_number_and_where_there_is_nothing_the_first():
    certain = jnp.where(jnp.arange(100) == 70, 0.0, -jnp.inf)
    words, codes = read_word(jnp.broadcast_to(certain, (N, 100)), everywhere())
    assert (words == 70).all()
    np.testing.assert_allclose(codes.at, everywhere().at, atol=1e-6)
    np.testing.assert_array_equal(codes.width, everywhere().width)
    words, codes = read_word(jnp.full((N, 100), -jnp.inf), everywhere())
    assert (words == 0).all()
    assert jnp.isfinite(codes.at).all()


def test_each_part_has_a_number_and_none_is_1():
    at = np.asarray(even_codes(jax.random.split(jax.random.key(0), 2000), 50).at)
    assert (at < 1).all()
    assert (np.abs(50 * at - np.arange(50) - 0.5) <= 0.5 + 1e-4).all()
    assert len(np.unique(at[:, 0])) == 2000


def test_numbers_are_drawn_anew_where_shares_are_narrower_than_a_part():
    codes = Codes(jnp.full((2, 4), 0.125), jnp.array([[0.24, 0.26, 1.0, 0.0]] * 2))
    at = np.asarray(refreshed(codes, KEYS).at)
    np.testing.assert_array_equal(at == 0.125, [[False, True, True, False]] * 2)
    assert len(np.unique(at)) == 5


def test_captions_begin_as_often_as_is_likely_to_within_two():
    captioner = make(3)
    images = jax.random.normal(jax.random.key(1), (2, 16, 16, 3))
    captions, count = every_caption(), 300
    found = sample_evenly(ensemble(captioner, images), T, count, KEYS)
    for image, drawn in zip(images, np.asarray(found.tokens), strict=True):
        p = np.exp(log_probabilities(captioner, image, captions))
        told = 0
        for length in range(1, T + 1):
            for beginning in np.unique(captions[:, :length], axis=0):
                share = p[(captions[:, :length] == beginning).all(1)].sum()
                if count * share >= 1:
                    assert abs((drawn[:, :length] == beginning).all(1).sum() - count * share) < 2.01
                    told += 1
        assert told > 10
