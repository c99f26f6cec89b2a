"""Several captioners scored as one: laws of the mixture."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from captioner_jax.captioning import Captioner
from captioner_jax.data.pipeline import Batch
from captioner_jax.errors import UserError
from captioner_jax.generation.consensus import by_consensus
from captioner_jax.generation.ensemble import Ensemble
from captioner_jax.generation.neighbours import Photographs
from captioner_jax.generation.search import beam_search, sample_evenly
from captioner_jax.generation.settings import Generation
from captioner_jax.generation.writing import Untrained, halves, image_keys
from captioner_jax.text.special import END, PAD, START
from captioner_jax.text.tokenizer import train_bpe, train_words
from captioner_jax.together import together
from captioner_jax.training.step import make_evaluation_step
from tests.making import untrained

TOKENS = np.array([[[START, 5, 7, 6, END, PAD]], [[START, 8, END, PAD, PAD, PAD]]], np.int32)


@pytest.fixture(scope="module")
def batch():
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    return Batch(images, TOKENS, np.ones(2, bool), np.arange(2, dtype=np.int32))


def seen_by(one, batch):
    return batch._replace(images=one.sight(one.known, batch.images))


@pytest.mark.parametrize("count", [1, 3])
def test_the_same_captioner_several_times_loses_and_writes_as_it_does_alone(batch, count):
    captioner = untrained()
    alone = make_evaluation_step(captioner.graphdef, captioner.preprocessing)(captioner.parameters, batch)
    one = together([captioner], beams=3)
    several = together([captioner] * count, beams=3)
    np.testing.assert_allclose(several.loss_sums(several.known, seen_by(several, batch)), alone, rtol=1e-5)
    expected, written = (its.write(its.known, seen_by(its, batch)).tokens for its in (one, several))
    np.testing.assert_array_equal(written, expected)


def test_consensus_chooses_one_of_the_beams_captions(batch):
    captioners = [untrained(seed=1), untrained(seed=2)]
    beam, chosen = together(captioners, beams=8), together(captioners, beams=8, consensus=30)
    found, best = (its.write(its.known, seen_by(its, batch)).tokens for its in (beam, chosen))
    assert best.shape[1] == 1
    assert (found == best).all(-1).any(-1).all()
    assert not np.array_equal(best[:, 0], found[:, 0])


def test_what_is_drawn_for_an_image_is_so_wherever_in_a_batch_it_stands(batch):
    one = together([untrained()], beams=8, consensus=4)
    turned = jax.tree.map(lambda x: np.asarray(x)[::-1], batch)
    found, again = (np.asarray(one.write(one.known, seen_by(one, its)).tokens) for its in (batch, turned))
    np.testing.assert_array_equal(found, again[::-1])
    alike = batch._replace(images=np.stack([batch.images[0]] * len(batch.images)), numbers=np.zeros_like(batch.numbers))
    same = np.asarray(one.write(one.known, seen_by(one, alike)).tokens)
    assert (same == same[:1]).all()


def test_the_loss_of_two_is_that_of_the_mean_of_their_probabilities(batch):
    captioners = [untrained(seed=1), untrained(seed=2)]
    both = together(captioners, beams=1)
    loss, words = both.loss_sums(both.known, seen_by(both, batch))
    probabilities = [of_targets(captioner, batch) for captioner in captioners]
    expected = [-np.log((p + q) / 2) for p, q in zip(*probabilities, strict=True)]
    assert words == len(expected) == 6
    np.testing.assert_allclose(loss, sum(expected), rtol=1e-5)


def of_targets(captioner, batch):
    """Each word's probability, by a softmax in float64."""
    model = nnx.merge(captioner.graphdef, captioner.parameters)
    see = together([captioner], beams=1)
    (cells,) = see.sight(see.known, batch.images)
    inputs, targets = TOKENS[:, 0, :-1], TOKENS[:, 0, 1:]
    decoder = model.decoder
    x = decoder.read(jnp.asarray(inputs), jnp.asarray(inputs != PAD), model.memory(cells))
    logits = decoder.all_logits(x)
    exponents = np.exp(np.asarray(logits, np.float64))
    p = exponents / exponents.sum(-1, keepdims=True)
    return [p[row, t, targets[row, t]] for row, t in np.argwhere(targets != PAD)]


def test_captioners_of_unlike_vocabularies_or_images_do_not_go_together():
    with pytest.raises(UserError, match="the same size"):
        together([untrained(), untrained(image_size=32)], beams=1)
    with pytest.raises(UserError, match=r"the same data\.framing"):
        together([untrained(), untrained(framing="whole")], beams=1)
    with pytest.raises(UserError, match="the same vocabulary"):
        together([untrained(), untrained(tokenizer=train_words(["a cat"], 1))], beams=1)


def test_together_they_write_no_more_words_than_each_was_trained_on(batch):
    both = [untrained(), dataclasses.replace(untrained(seed=4), max_length=4)]
    for pair in (both, both[::-1]):
        one = together(pair, beams=2)
        assert one.write(one.known, seen_by(one, batch)).tokens.shape[-1] == 4


PAIRS = train_bpe(["a dog on the grass", "the dog on a ball"] * 3, 300)


def with_silent_bytes():
    """A captioner that writes pairs of bytes, and these rather than single ones."""
    one = untrained(tokenizer=PAIRS)
    embed = one.parameters["decoder"]["embed"]
    embed["embedding"] = embed["embedding"].at[4 : PAIRS.most_frequent].set(0)
    return one


def test_consensus_weighs_words_by_the_tokenizers_frequencies(batch):
    one = with_silent_bytes()
    scored = together([one], beams=6, consensus=30)
    speaker = Ensemble([Untrained(one.graphdef, one.preprocessing).voice(one.parameters, batch.images)])
    drawn = sample_evenly(speaker, one.max_length, 30, image_keys(halves(0), batch.numbers.astype(np.uint32)))
    expected = by_consensus(beam_search(speaker, one.max_length, 6), drawn, None, PAIRS.most_frequent).scores.max(-1)
    np.testing.assert_allclose(scored.write(scored.known, seen_by(scored, batch)).scores[:, 0], expected, rtol=1e-4)


def test_captions_are_scored_as_programs_choose_them_by_draws_and_neighbours(batch):
    rng, one = np.random.default_rng(0), with_silent_bytes()
    beam = together([one], beams=6)
    captions = np.resize(beam.write(beam.known, seen_by(beam, batch)).tokens, (30, 1, one.max_length)).astype(np.int16)
    one = dataclasses.replace(one, photographs=Photographs(rng.normal(size=(30, 32)).astype(np.float16), captions))
    scored = together([one], beams=6, consensus=30, neighbours=5)
    found = scored.write(scored.known, seen_by(scored, batch)).scores
    asked = Generation(beam=6, consensus=30, neighbours=5, good_ending=False)
    captioner = Captioner(one)
    parameters = [model.parameters for model in captioner._models]
    expected = captioner._compiled(asked)(parameters, batch.images, batch.numbers.astype(np.uint32), halves(0)).scores
    np.testing.assert_allclose(found, expected, rtol=0.02)  # a captioner folds its norms, and rounds otherwise
    assert (np.asarray(found) > 0).all()
