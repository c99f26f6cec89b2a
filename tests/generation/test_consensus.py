"""What is chosen by consensus is most like what the captioner says, as the evaluation would judge likeness."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from captioner_jax.evaluation.cider import DocumentFrequencies, cider_d
from captioner_jax.generation import consensus
from captioner_jax.generation.search import Found, beam_search, sample
from captioner_jax.text.special import END, PAD
from captioner_jax.text.tokenizer import train_bpe
from tests.generation.test_search import T, ensemble, every_caption, log_probabilities, make

by_consensus = jax.jit(consensus.by_consensus)
RANKS = {str(END): 1} | {str(token): token - 3 for token in range(4, 9)}  # which all divide 60
ZIPF = DocumentFrequencies(
    60**4,
    {
        words: int(60**4 / np.prod([RANKS[word] for word in words]))
        for n in range(1, 5)
        for words in itertools.product(RANKS, repeat=n)
    },
)


def likeness(candidates, others):
    """By the evaluation, in Python: of each of K captions with each of N."""
    spelled = [[[str(i) for i in ids if i != PAD] for ids in captions] for captions in (candidates, others)]
    pairs = list(itertools.product(*spelled))
    scores = cider_d([c for c, _ in pairs], [[other] for _, other in pairs], ZIPF) / 10
    return scores.reshape(len(candidates), len(others))


def drawn_at_random(shape, least=1, length=7):
    """Captions of `least` to `length` words, END after all that have room for it."""
    draw = np.random.default_rng(0)
    words = draw.integers(4, 9, (*shape, length), dtype=np.int32)
    ends = draw.integers(least, length + 1, (*shape, 1))
    place = np.arange(length)
    return np.where(place < ends, words, np.where(place == ends, END, PAD)).astype(np.int32)


def found(tokens, log_p=None):
    zeros = jnp.zeros(tokens.shape[:2])
    return Found(jnp.asarray(tokens), zeros if log_p is None else jnp.asarray(log_p), zeros)


def test_likeness_is_that_of_the_evaluation():
    candidates, drawn = drawn_at_random((3, 5)), drawn_at_random((3, 8))[:, ::-1]
    scores = by_consensus(found(candidates), found(drawn)).scores
    wanted = [likeness(*of_image).mean(1) for of_image in zip(candidates, drawn, strict=True)]
    np.testing.assert_allclose(scores, wanted, rtol=1e-5)
    assert np.max(wanted) > 0.1


def test_the_score_is_the_mean_over_all_that_could_be_said():
    captioner, images, draws = make(3), jax.random.normal(jax.random.key(1), (2, 16, 16, 3)), 5_000
    speakers = ensemble(captioner, images)
    captions = every_caption()
    candidates = beam_search(speakers, T, len(captions))
    drawn = sample(speakers, T, draws, jax.random.split(jax.random.key(0), 2))
    scores = np.asarray(by_consensus(candidates, drawn).scores)
    for i, own in enumerate(np.asarray(candidates.tokens)):
        similar = likeness(own, captions)
        p = np.exp(log_probabilities(captioner, images[i], captions))
        mean = similar @ p
        error = np.sqrt(np.maximum(similar**2 @ p - mean**2, 0) / draws)
        assert (np.abs(scores[i] - mean) < 5 * error + 1e-6).all()
        assert mean.argmax() == scores[i].argmax()


def test_what_all_say_wins_whatever_its_place():
    candidates = drawn_at_random((1, 6), least=3)
    for place in range(6):
        drawn = np.repeat(candidates[:, place : place + 1], 4, 1)
        assert by_consensus(found(candidates), found(drawn)).scores[0].argmax() == place


def test_dead_ends_count_for_nothing():
    candidates, drawn = drawn_at_random((2, 4)), drawn_at_random((2, 6))[:, ::-1]
    dead = np.array([[0, 0, -np.inf, -np.inf, -np.inf, -np.inf]] * 2, np.float32)
    given = found(candidates)._replace(scores=jnp.array([[0, -jnp.inf, 0, 0]] * 2))
    scores = by_consensus(given, found(drawn, dead)).scores
    alive = by_consensus(found(candidates), found(drawn[:, :2])).scores
    assert np.isneginf(scores[:, 1]).all()
    np.testing.assert_allclose(scores[:, [0, 2, 3]], alive[:, [0, 2, 3]], rtol=1e-6)
    nothing = by_consensus(found(candidates), found(drawn, np.full((2, 6), -np.inf, np.float32)))
    np.testing.assert_array_equal(nothing.scores, 0)


def test_pairs_of_bytes_are_as_rare_as_they_were_merged_late():
    """And bytes, which come before all pairs in the vocabulary, as the first of these."""
    tokenizer = train_bpe(["a dog on the grass", "the dog on a ball"] * 3, 300)
    first = tokenizer.most_frequent
    assert {len(tokenizer.backend.id_to_token(i)) for i in range(4, first)} == {1}
    assert len(tokenizer.backend.id_to_token(first)) == 2
    (rare,) = consensus.idf(jnp.asarray([[[4, first - 1, first, first + 1, first + 9]]]), first)[:1]
    np.testing.assert_allclose(rare[0, 0], np.log([1, 1, 1, 2, 10]), rtol=1e-6)
