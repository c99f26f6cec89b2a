"""Every setting of a search reaches it."""

import jax
import numpy as np
import pytest
from flax import nnx

from captioner_jax.generation import constraints
from captioner_jax.generation.consensus import by_consensus
from captioner_jax.generation.filters import temperature
from captioner_jax.generation.search import beam_search, sample, sample_evenly
from captioner_jax.generation.settings import Generation, make_recorder, make_search
from captioner_jax.model.captioner import Captioner
from captioner_jax.text.special import END, PAD
from captioner_jax.text.tokenizer import train_bpe
from tests.generation.test_search import KEYS, ensemble
from tests.generation.test_settings import MODEL, TOKENIZER

LENGTH = 8


def speakers(tokenizer=TOKENIZER, louder=4, seed=3):
    """Two images; `louder`, the surer of its words."""
    captioner = Captioner(MODEL, len(tokenizer), rngs=nnx.Rngs(seed))
    embedding = captioner.decoder.embed.embedding
    embedding[...] = embedding[...] * louder
    return ensemble(captioner, jax.random.normal(jax.random.key(1), (2, 16, 16, 3)))


def ask(tokenizer=TOKENIZER, louder=4, **asked):
    search = make_search(Generation(**asked), tokenizer, LENGTH)
    return jax.jit(lambda keys: search(speakers(tokenizer, louder), keys))(KEYS)


def spoken(found):
    """The words of each caption that there is, image by image."""
    return [
        [[int(i) for i in ids if i > END] for ids, score in zip(*of_image, strict=True) if np.isfinite(score)]
        for of_image in zip(found.tokens, found.scores, strict=True)
    ]


def test_consensus_is_with_draws_under_the_same_constraints_and_by_the_tokenizers_frequencies():
    tokenizer = train_bpe(["a dog on the grass", "the dog on a ball"] * 3, 300)
    prefix = tokenizer.encode_all(["a dog"])[0]
    found = ask(tokenizer, beam=6, num_captions=6, consensus=40, prefix="a dog", good_ending=False)
    rules = [
        constraints.at_most(LENGTH - 1),
        constraints.at_least(len(prefix)),
        constraints.begins_with(prefix),
    ]
    beam = beam_search(speakers(tokenizer), LENGTH, 6, rules)
    drawn = sample_evenly(speakers(tokenizer), LENGTH, 40, KEYS, rules)
    expected = by_consensus(beam, drawn, None, tokenizer.most_frequent).scores
    np.testing.assert_allclose(found.scores, -np.sort(-expected, axis=1), rtol=1e-5)


def test_one_caption_that_is_drawn_is_one_draw_and_not_the_best_of_several():
    found = ask(louder=1, temperature=1.0, good_ending=False)
    one = sample(speakers(louder=1), LENGTH, 1, KEYS, [constraints.at_most(LENGTH - 1)], [temperature(1.0)])
    np.testing.assert_array_equal(found.tokens, one.tokens)


@pytest.mark.parametrize(("kind", "divisor"), [("power", lambda n: n), ("gnmt", lambda n: (5 + n) / 6)])
@pytest.mark.parametrize("alpha", [0.0, 2.0])
def test_scores_are_normalised_as_asked_and_every_caption_ends(kind, divisor, alpha):
    found = ask(beam=6, num_captions=6, length_penalty=kind, length_alpha=alpha)
    lengths = (np.asarray(found.tokens) != PAD).sum(-1)
    np.testing.assert_allclose(found.scores, found.log_p / divisor(lengths) ** alpha, rtol=1e-5)
    assert ((np.asarray(found.tokens) == END).sum(-1) == 1).all()


@pytest.mark.parametrize("asked", [{"no_repeat_ngram": 1}, {"repetition_penalty": 1e4}])
def test_what_may_not_come_twice_does_not(asked):
    found = ask(louder=1, temperature=3.0, num_captions=8, min_length=6, **asked)
    said = [caption for of_image in spoken(found) for caption in of_image]
    assert said
    assert all(len(set(caption)) == len(caption) >= 6 for caption in said)


@pytest.mark.parametrize("asked", [{"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}, {"temperature": 1e-4}])
def test_what_is_drawn_from_the_likeliest_word_alone_is_greedy(asked):
    np.testing.assert_array_equal(ask(louder=1, **asked).tokens, ask(louder=1, beam=1).tokens)


@pytest.mark.parametrize(("diversity", "different"), [(0.0, 1), (100.0, 4)])
def test_groups_differ_as_much_as_asked(diversity, different):
    found = ask(beam=4, groups=4, num_captions=4, diversity=diversity)
    assert [len(of_image) for of_image in spoken(found)] == [different] * 2


@pytest.mark.parametrize("alpha", [0.0, 10.0])
def test_the_steps_of_a_search_end_with_what_it_finds(alpha):
    """Of a captioner whose captions are of other lengths with each of these."""
    asked, ones = Generation(beam=3, num_captions=3, length_alpha=alpha), speakers(seed=7)
    found = jax.jit(lambda: make_search(asked, TOKENIZER, LENGTH)(ones, KEYS))().tokens
    steps = jax.jit(lambda: make_recorder(asked, TOKENIZER, LENGTH)(ones))().tokens
    for last, best in zip(np.asarray(steps)[:, -1], np.asarray(found), strict=True):
        assert {tuple(caption) for caption in last} == {tuple(caption) for caption in best}
