"""What people wrote of similar photographs, and how much it counts."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy

from captioner_jax.generation.neighbours import Photographs, evidence, index
from captioner_jax.text.special import END, PAD
from tests.generation.test_consensus import by_consensus, drawn_at_random, found, likeness

CHANNELS, PHOTOGRAPHS, REFERENCES = 5, 30, 2


@pytest.fixture(scope="module")
def known():
    """Photographs of which each caption tells the number, in base 5; the last one has but one caption."""
    seen = np.random.default_rng(0).normal(3, [1, 2, 3, 4, 5], (PHOTOGRAPHS, CHANNELS)).astype(np.float32)
    captions = np.full((PHOTOGRAPHS, REFERENCES, 4), PAD, np.int16)
    for i in range(PHOTOGRAPHS):
        captions[i, :, :3] = [[4 + i % 5, 4 + i // 5, END], [4 + i // 5, 4 + i % 5, END]]
    captions[-1, 1] = PAD
    return Photographs(seen, captions)


def cosines(known, image):
    """With each photograph, from the formula."""
    root = scipy.linalg.fractional_matrix_power(np.cov(known.seen, rowvar=False), -0.25)
    told, own = ((x - known.seen.mean(0)) @ root for x in (known.seen, image))
    return told @ own / np.linalg.norm(told, axis=1) / np.linalg.norm(own)


def of_nearest(known, cosines, count):
    """The captions of the photographs of the greatest cosines."""
    return known.captions[np.argsort(-cosines)[:count]].reshape(-1, 4)


def test_the_nearest_count_by_their_rank_and_share_it_among_their_captions(known):
    images = np.random.default_rng(1).normal(3, 3, (4, CHANNELS)).astype(np.float32)
    tokens, weights = evidence([jnp.asarray(images)], [index(known)], 3)
    for i, image in enumerate(images):
        np.testing.assert_array_equal(tokens[i], of_nearest(known, cosines(known, image), 3))
        np.testing.assert_allclose(weights[i], np.repeat([6 / 11, 3 / 11, 2 / 11], 2) / 2, rtol=1e-6)


def test_what_is_not_there_weighs_nothing(known):
    _, weights = evidence([jnp.asarray(known.seen[-1:])], [index(known)], 2)
    np.testing.assert_allclose(weights[0], [2 / 3, 0, 1 / 6, 1 / 6], rtol=1e-6)


def test_each_photograph_is_its_own_nearest_even_where_there_are_few(known):
    for some in (
        known,
        Photographs(known.seen[:3], known.captions[:3]),
        known._replace(seen=known.seen[:, [0, 0, 1, 2]]),
    ):
        tokens, _ = evidence([jnp.asarray(some.seen)], [index(some)], 1)
        np.testing.assert_array_equal(tokens.reshape(some.captions.shape), some.captions)


def test_who_is_near_does_not_depend_on_axes_origin_and_unit(known):
    images = np.random.default_rng(3).normal(3, 3, (6, CHANNELS)).astype(np.float32)
    turn = scipy.stats.ortho_group.rvs(CHANNELS, random_state=0).astype(np.float32)
    elsewhere = known._replace(seen=10 * known.seen @ turn + 7)
    plain, moved = (
        evidence([jnp.asarray(x)], [index(some)], 5)
        for x, some in ((images, known), (10 * images @ turn + 7, elsewhere))
    )
    np.testing.assert_array_equal(moved.tokens, plain.tokens)


def test_several_captioners_look_by_the_mean_of_their_cosines(known):
    rng = np.random.default_rng(2)
    other = known._replace(seen=rng.normal(0, 1, (PHOTOGRAPHS, 3)).astype(np.float32))
    seen = [rng.normal(3, 3, (6, CHANNELS)).astype(np.float32), rng.normal(0, 1, (6, 3)).astype(np.float32)]
    tokens, _ = evidence([jnp.asarray(x) for x in seen], [index(known), index(other)], 4)
    for i, (one, another) in enumerate(zip(*seen, strict=True)):
        of_each = cosines(known, one), cosines(other, another)
        np.testing.assert_array_equal(tokens[i], of_nearest(known, np.mean(of_each, 0), 4))
        assert not np.array_equal(tokens[i], of_nearest(known, of_each[0], 4))


def test_neighbours_count_as_much_as_draws(known):
    candidates, drawn = drawn_at_random((2, 5)), drawn_at_random((2, 8))[:, ::-1]
    near = evidence([jnp.asarray(known.seen[:2])], [index(known)], 3)
    scores = by_consensus(found(candidates), found(drawn), near).scores
    for i in range(2):
        of_draws = likeness(candidates[i], drawn[i]).mean(1)
        of_near = likeness(candidates[i], np.asarray(near.tokens[i])) @ np.asarray(near.weights[i])
        np.testing.assert_allclose(scores[i], (of_draws + of_near) / 2, rtol=1e-5)
        assert of_near.max() > 0
