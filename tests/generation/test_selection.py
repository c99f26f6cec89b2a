"""Which candidates of a step are kept, beside loops in NumPy and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner_jax.generation.constraints import SoFar
from captioner_jax.generation.search import likeliest
from captioner_jax.generation.selection import BLOCK, Banks, Diverse, top
from captioner_jax.text.special import PAD

V = 9
NOTHING_YET = SoFar(jnp.zeros((1, 6, 4), jnp.int32), jnp.asarray(1))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.data())
def test_the_best_are_found_in_the_best_blocks(data):
    """Few values, so that many are alike, and the number of a candidate decides; some that may not be."""
    count, blocks, rest = (data.draw(st.integers(*ends)) for ends in ((1, 7), (1, 30), (0, BLOCK - 1)))
    shape = 2, count + blocks * BLOCK + rest
    values = data.draw(st.integers(1, 40).map(np.float32)) * np.arange(-3, 3, dtype=np.float32)
    values[0] = -np.inf
    drawn = np.random.default_rng(data.draw(st.integers(0, 10**6))).choice(values, shape, p=[0.98, *[0.004] * 5])
    for found, expected in zip(top(jnp.asarray(drawn), count), jax.lax.top_k(drawn, count), strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(likeliest(jnp.asarray(drawn)), drawn.argmax(-1))


def test_groups_pay_for_words_of_earlier_ones_and_not_for_captions_that_have_ended():
    """Vijayakumar et al. 2018, "Diverse Beam Search", equation 5, with the Hamming diversity."""
    rng, beams, strength = np.random.default_rng(0), 6, 0.7
    for _ in range(20):
        scores, done = rng.normal(size=(1, beams, V)).astype(np.float32), rng.random(beams) < 0.4
        scores[0, done, 1:], scores[0, ~done, PAD] = -np.inf, -np.inf
        chosen = Diverse(beams, 3, strength).choose(jnp.asarray(scores), NOTHING_YET)
        taken, expected = np.zeros(V), []
        for first in range(0, beams, 2):
            of_group = [(scores[0, k, w] - strength * taken[w], k, w) for k in (first, first + 1) for w in range(V)]
            best = [(k, w) for score, k, w in sorted(of_group, reverse=True)[:2] if np.isfinite(score)]
            expected += best
            for _, word in best:
                taken[word] += word != PAD
        kept = zip(*(x[0] for x in chosen), strict=True)
        assert [(int(parent), int(word)) for parent, word, possible in kept if possible] == expected


def test_a_group_pays_for_each_beam_that_took_a_word():
    scores = jnp.full((1, 4, V), -9.0).at[0, :2, 5].set(0.0).at[0, 2, 5].set(-1.0).at[0, 2, 6].set(-2.5)
    chosen = Diverse(4, 2, 1.0).choose(scores, SoFar(jnp.zeros((1, 4, 4), jnp.int32), jnp.asarray(0)))
    assert chosen.words.tolist() == [[5, 5, 6, 5]]  # two took 5, which for one beam would still be worth it


def test_a_bank_holds_captions_that_say_as_many_of_the_words():
    """Hokamp and Liu 2017, section 3: K captions in each."""
    rng, wanted, each = np.random.default_rng(0), [5, 7], 4
    tokens = np.where(np.arange(4) < 3, rng.integers(4, V, (2, 12, 4)), PAD)
    scores = jnp.asarray(rng.normal(size=(2, 12, V)), jnp.float32)
    chosen = Banks(each, wanted).choose(scores, SoFar(jnp.asarray(tokens, jnp.int32), jnp.asarray(3)))
    for image in range(2):
        kept = zip(chosen.parents[image].tolist(), chosen.words[image].tolist(), strict=True)
        said = np.array([len({*tokens[image, parent], word} & {*wanted}) for parent, word in kept])
        possible = np.asarray(chosen.possible[image])
        np.testing.assert_array_equal(said[possible], np.repeat(np.arange(3), each)[possible])
        assert possible.sum() >= 9


def test_a_word_that_is_said_just_now_counts_for_its_bank():
    scores = jnp.full((1, 2, V), -9.0).at[0, 0, 5].set(0.0).at[0, 0, 6].set(-1.0)
    chosen = Banks(1, [5]).choose(scores, SoFar(jnp.zeros((1, 2, 4), jnp.int32), jnp.asarray(0)))
    assert chosen.words.tolist() == [[6, 5]]


def test_a_group_pays_for_no_candidate_that_was_none():
    """The first group has one beam that can go on, and by one word."""
    scores = jnp.full((1, 4, V), -jnp.inf).at[0, 0, 6].set(0.0).at[0, 2, 4].set(-1.0).at[0, 2, 5].set(-1.5)
    chosen = Diverse(4, 2, 1.0).choose(scores, SoFar(jnp.zeros((1, 4, 4), jnp.int32), jnp.asarray(0)))
    words = [int(word) for word, possible in zip(chosen.words[0], chosen.possible[0], strict=True) if possible]
    assert words == [6, 4, 5]
