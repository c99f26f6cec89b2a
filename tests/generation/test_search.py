"""A search as wide as the tree finds what trying every caption finds; a sample has the right frequencies."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from flax import nnx

from captioner_jax.config import EncoderConfig, ModelConfig
from captioner_jax.generation import constraints as c
from captioner_jax.generation.ensemble import Ensemble, Voice, alone
from captioner_jax.generation.filters import temperature, top_k
from captioner_jax.generation.search import (
    beam_search,
    beam_steps,
    gnmt_penalty,
    greedy,
    length_power,
    sample,
    sample_evenly,
)
from captioner_jax.generation.selection import Banks, Best, Diverse
from captioner_jax.model.captioner import Captioner
from captioner_jax.text.special import END, PAD, START

KEYS = jax.random.split(jax.random.key(0), 2)
V, T = 7, 3  # three words besides the special tokens
CONFIG = ModelConfig(
    width=16, heads=2, feed_forward=32, layers=1, encoder=EncoderConfig("convnet", 4, (16, 32), (0, 1))
)


def make(seed):
    one = Captioner(CONFIG, V, rngs=nnx.Rngs(seed))
    one.decoder.embed.embedding[...] = one.decoder.embed.embedding[...] * 4  # so that captions differ in likelihood
    return one


@pytest.fixture(scope="module")
def captioner():
    return make(3)


@pytest.fixture(scope="module")
def images():
    return jax.random.normal(jax.random.key(1), (2, 16, 16, 3))


def ensemble(captioner, images):
    return alone(captioner.decoder, captioner.memory(captioner.see(images)))


def every_caption(length=T):
    """Up to `length` tokens, those shorter than that ended by END."""
    captions = []
    for words in range(length + 1):
        for some in itertools.product(range(4, V), repeat=words):
            captions.append(list(some) if words == length else [*some, END] + [PAD] * (length - words - 1))
    return np.array(captions)


def log_probabilities(captioner, image, captions):
    """Of captions of one image, by the whole model at once, without search and cache."""
    inputs = jnp.concatenate([jnp.full((len(captions), 1), START), captions[:, :-1]], axis=1)
    logits = captioner(jnp.repeat(image[None], len(captions), 0), inputs, inputs != PAD)
    logits = logits.at[:, :, jnp.array([0, 1, 3])].set(-jnp.inf)
    log_p = jnp.take_along_axis(jax.nn.log_softmax(logits), captions[:, :, None], -1)[:, :, 0]
    return np.where(captions != PAD, log_p, 0).sum(1, dtype=np.float64)


NORMALISERS = {
    "none": (length_power(0.0), lambda n: n**0),
    "power": (length_power(0.7), lambda n: n**0.7),
    "mean": (length_power(1.0), lambda n: n),
    "gnmt": (gnmt_penalty(0.6), lambda n: (5 + n) ** 0.6 / 6**0.6),
}


@pytest.mark.parametrize("name", NORMALISERS)
def test_exhaustive(captioner, images, name):
    normaliser, divisor = NORMALISERS[name]
    captions = every_caption()
    found = beam_search(ensemble(captioner, images), T, beams=len(captions), normaliser=normaliser)
    for i in range(2):
        log_p = log_probabilities(captioner, images[i], captions)
        scores = log_p / divisor((captions != PAD).sum(1).astype(float))
        order = np.argsort(-scores)
        np.testing.assert_allclose(found.scores[i, :5], scores[order[:5]], rtol=1e-4)
        np.testing.assert_allclose(found.log_p[i, :5], log_p[order[:5]], rtol=1e-4)
        np.testing.assert_array_equal(found.tokens[i, 0], captions[order[0]])


def test_the_last_of_its_steps_is_what_a_search_finds(captioner, images):
    found, steps = (search(ensemble(captioner, images), 5, 4) for search in (beam_search, beam_steps))
    assert steps.tokens.shape == (2, 5, 4, 5)
    for i in range(2):
        last = {tuple(map(int, w)): float(p) for w, p in zip(steps.tokens[i, -1], steps.log_p[i, -1], strict=True)}
        assert last == {tuple(map(int, w)): float(p) for w, p in zip(found.tokens[i], found.log_p[i], strict=True)}
        for step in range(5):
            assert (steps.tokens[i, step, :, step + 1 :] == PAD).all()


# Constraints on captions of up to four words and an end, and whether a list of words keeps them.
CONSTRAINED = {
    "banned": ([c.banned([5])], lambda w: 5 not in w),
    "no repeats": ([c.no_repeated(2), c.at_most(4)], lambda w: len(set(itertools.pairwise(w))) == max(len(w) - 1, 0)),
    "beginning": ([c.begins_with([6, 5]), c.at_least(3), c.at_most(3)], lambda w: w[:2] == [6, 5] and len(w) == 3),
    "wanted": ([c.must_say([5, 6], 4), c.at_most(4)], lambda w: {5, 6} <= set(w)),
    "much": (
        [c.must_say([6], 4), c.no_repeated(1), c.at_least(2), c.does_not_end_with([6], 4), c.at_most(4)],
        lambda w: 6 in w and len(set(w)) == len(w) >= 2 and w[-1] != 6,
    ),
}


@pytest.mark.parametrize("name", CONSTRAINED)
def test_the_best_of_the_captions_allowed_is_found(captioner, images, name):
    constraints, allows = CONSTRAINED[name]
    captions = np.array([w for w in every_caption(5) if allows([x for x in w if x > END]) and (END in w)])
    selection = Banks(81, [5, 6]) if name == "wanted" else Best(243)
    found = beam_search(
        ensemble(captioner, images), 5, 20, constraints, normaliser=length_power(0.0), selection=selection
    )
    quick = greedy(ensemble(captioner, images), 5, constraints)
    for i in range(2):
        log_p = log_probabilities(captioner, images[i], captions)
        if "at_most" not in name and name == "banned":  # may fill its places without an end
            found_log_p = found.log_p[i][(np.asarray(found.tokens[i]) == END).any(-1)]
            np.testing.assert_allclose(found_log_p[:5], np.sort(log_p)[::-1][:5], rtol=1e-4)
            continue
        count = min(len(log_p), 20)
        np.testing.assert_allclose(found.log_p[i, :count], np.sort(log_p)[::-1][:count], rtol=1e-4, atol=1e-4)
        assert np.isneginf(found.scores[i, count:]).all()
        np.testing.assert_array_equal(found.tokens[i, 0], captions[log_p.argmax()])
        if np.isfinite(quick.log_p[i, 0]):
            assert allows([int(x) for x in quick.tokens[i, 0] if x > END])


def test_a_batch_is_as_good_as_one_at_a_time(captioner, images):
    for search in (greedy, lambda e, t: beam_search(e, t, beams=3)):
        together = search(ensemble(captioner, images), T).tokens
        apart = [search(ensemble(captioner, images[i : i + 1]), T).tokens for i in range(2)]
        np.testing.assert_array_equal(together, np.concatenate(apart))


def test_what_comes_to_a_dead_end_is_told_apart(captioner, images):
    nothing = [c.banned([4, 5, 6]), c.at_least(1)]
    one = ensemble(captioner, images)
    for found in (
        greedy(one, T, nothing),
        beam_search(one, T, 2, nothing),
        sample(one, T, 2, KEYS, nothing),
        sample_evenly(one, T, 2, KEYS, nothing),
    ):
        assert np.isneginf(found.scores).all()


drawn_either_way = pytest.mark.parametrize("draw", [sample, sample_evenly])


@drawn_either_way
@pytest.mark.parametrize("filtered", [False, True])
def test_captions_are_drawn_as_often_as_they_are_likely(captioner, images, filtered, draw):
    captions, count = every_caption(), 6000
    filters = [temperature(2.0), top_k(2)] if filtered else []
    found = draw(ensemble(captioner, images), T, count, KEYS, filters=filters)
    for i in range(2):
        log_p = log_probabilities(captioner, images[i], captions)
        p = two_likeliest(captioner, images[i], captions) if filtered else np.exp(log_p)
        number = {tuple(caption): n for n, caption in enumerate(captions)}
        drawn = np.array([number[tuple(map(int, tokens))] for tokens in found.tokens[i]])
        np.testing.assert_allclose(found.log_p[i], log_p[drawn], rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(p.sum(), 1, rtol=1e-4)
        often = p * count >= 5
        observed = np.bincount(drawn, minlength=len(captions))
        assert often.sum() >= 4
        rare = (observed[~often].sum(), p[~often].sum() * count)
        assert scipy.stats.poisson.sf(rare[0] - 1, rare[1] + 1e-9) > 1e-3
        expected = p[often] * (observed[often].sum() / p[often].sum())
        assert scipy.stats.chisquare(observed[often], expected).pvalue > 1e-3


def two_likeliest(captioner, image, captions):
    """Probabilities of captions whose words are one of the two likeliest, drawn by the roots of their probabilities."""
    inputs = jnp.concatenate([jnp.full((len(captions), 1), START), captions[:, :-1]], axis=1)
    logits = captioner(jnp.repeat(image[None], len(captions), 0), inputs, inputs != PAD)
    p = np.exp(np.asarray(logits, np.float64))
    p[:, :, [0, 1, 3]] = 0
    p = p**0.5
    p[p < np.sort(p, axis=-1)[:, :, -2:-1]] = 0
    p /= p.sum(-1, keepdims=True)
    of_words = np.take_along_axis(p, captions[:, :, None], -1)[:, :, 0]
    return np.where(captions != PAD, of_words, 1).prod(1)


@drawn_either_way
def test_a_key_draws_the_same_again_and_another_key_something_else(captioner, images, draw):
    one = ensemble(captioner, images)
    other = jax.random.split(jax.random.key(1), 2)
    first, again, other = (draw(one, T, 50, keys).tokens for keys in (KEYS, KEYS, other))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@drawn_either_way
def test_what_is_drawn_for_an_image_follows_from_it_and_its_key_alone(captioner, images, draw):
    together = draw(ensemble(captioner, images), T, 50, KEYS).tokens
    apart = [draw(ensemble(captioner, images[i : i + 1]), T, 50, KEYS[i : i + 1]).tokens for i in (1, 0)]
    np.testing.assert_array_equal(together, np.concatenate(apart[::-1]))


def test_one_group_is_no_group_and_groups_begin_differently(captioner, images):
    one = ensemble(captioner, images)
    together = beam_search(one, T, 4)
    alone = beam_search(one, T, 4, selection=Diverse(4, 1, 5.0))
    np.testing.assert_array_equal(together.tokens, alone.tokens)
    alike = beam_search(one, T, 4, selection=Diverse(4, 2, 0.0))
    np.testing.assert_array_equal(alike.tokens[:, 0], alike.tokens[:, 1])
    apart = beam_search(one, T, 4, normaliser=length_power(0.0), selection=Diverse(4, 4, 100.0))
    for i in range(2):
        assert len(set(np.asarray(apart.tokens[i, :, 0]).tolist())) == 4
        captions = np.asarray(apart.tokens[i])
        np.testing.assert_allclose(apart.scores[i], log_probabilities(captioner, images[i], captions), rtol=1e-4)
    with pytest.raises(ValueError, match="do not divide"):
        Diverse(4, 3, 1.0)


def test_an_ensemble_is_the_mean_of_probabilities(captioner, images):
    other = make(4)
    both = Ensemble([Voice(x.decoder, x.memory(x.see(images))) for x in (captioner, other)])
    found = beam_search(both, 1, 4)
    captions = np.array([[2], [4], [5], [6]])
    for i in range(2):
        p = [np.exp(log_probabilities(x, images[i], captions)) for x in (captioner, other)]
        np.testing.assert_allclose(found.log_p[i], np.sort(np.log(np.mean(p, axis=0)))[::-1], rtol=1e-4)
    twice = Ensemble([*ensemble(captioner, images).voices] * 2)
    np.testing.assert_array_equal(
        beam_search(twice, T, 4).tokens, beam_search(ensemble(captioner, images), T, 4).tokens
    )


@pytest.mark.parametrize("alpha", [0.0, 1.0, 3.0])
def test_a_narrow_search_is_the_one_written_out(alpha):
    """Beams are cut by their score, not only ranked by it in the end."""
    captioner, images, length, width = make(3), jax.random.normal(jax.random.key(1), (6, 16, 16, 3)), 5, 3
    whole = nnx.jit(lambda one, image, ids: one(image, ids, ids != PAD))

    def after(image, words):
        ids = jnp.asarray([[START, *words] + [PAD] * (length - 1 - len(words))])
        logits = whole(captioner, image[None], ids)[0, len(words)].at[jnp.array([0, 1, 3])].set(-jnp.inf)
        return np.asarray(jax.nn.log_softmax(logits))

    found = beam_search(ensemble(captioner, images), length, width, normaliser=length_power(alpha))
    for image, tokens, scores in zip(images, found.tokens, found.scores, strict=True):
        beams = [((), 0.0)]
        for _ in range(length):
            candidates = [one for one in beams if one[0][-1:] == (END,)]
            for words, log_p in beams:
                if words[-1:] != (END,):
                    p = after(image, words)
                    candidates += [((*words, word), log_p + p[word]) for word in np.flatnonzero(np.isfinite(p))]
            beams = sorted(candidates, key=lambda one: -one[1] / len(one[0]) ** alpha)[:width]
        assert [tuple(int(i) for i in ids if i != PAD) for ids in tokens] == [words for words, _ in beams]
        np.testing.assert_allclose(scores, [p / len(words) ** alpha for words, p in beams], rtol=1e-4)


def test_one_caption_drawn_evenly_is_as_likely_as_it_should_be():
    """Of many images alike, one each: words of one caption must not be drawn by one number."""
    captioner, image, many = make(3), jax.random.normal(jax.random.key(1), (16, 16, 3)), 3000
    captioner.decoder.embed.embedding[...] = captioner.decoder.embed.embedding[...] / 4
    one = ensemble(captioner, image[None])
    memory = jax.tree.map(lambda x: jnp.repeat(x, many, 0), one.voices[0].memory)
    several = one._replace(voices=[one.voices[0]._replace(memory=memory)])
    drawn = jax.jit(lambda keys: sample_evenly(several, T, 1, keys).tokens)(jax.random.split(jax.random.key(0), many))
    captions = every_caption()
    p = np.exp(log_probabilities(captioner, image, captions))
    often = p * many >= 5
    observed = np.array([(np.asarray(drawn)[:, 0] == caption).all(1).sum() for caption in captions])[often]
    assert scipy.stats.chisquare(observed, p[often] * observed.sum() / p[often].sum()).pvalue > 1e-3
