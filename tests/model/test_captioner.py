"""Laws of the whole model: causality, padding, cached decoding, greedy and beam search."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from captioner_jax.config import EncoderConfig, ModelConfig
from captioner_jax.generation.ensemble import alone
from captioner_jax.generation.search import beam_search, greedy, length_power
from captioner_jax.model.bert import BertDecoder
from captioner_jax.model.captioner import Captioner
from captioner_jax.model.decoder import Decoder
from captioner_jax.model.gpt2 import GPT2Decoder
from captioner_jax.model.position import grid_sinusoids
from captioner_jax.text.special import END, PAD, START
from tests.making import FUSIONS

CONFIG = ModelConfig(
    width=16, heads=2, feed_forward=32, layers=2, encoder=EncoderConfig("convnet", 4, (16, 32), (1, 1))
)
V, T = 11, 6


@pytest.fixture(scope="module", params=FUSIONS)
def captioner(request):
    return Captioner(dataclasses.replace(CONFIG, fusion=request.param), V, rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def images():
    return jax.random.normal(jax.random.key(1), (3, 16, 16, 3))


@pytest.fixture(scope="module")
def words():
    return jax.random.randint(jax.random.key(2), (3, T), 4, V)


def test_the_decoder_equals_its_formulas_written_out(words):
    """Vaswani et al. 2017 with norms before the sublayers, in NumPy and float64, all weights and biases random."""
    captioner = Captioner(CONFIG, V, rngs=nnx.Rngs(0))
    graphdef, state = nnx.split(captioner)
    rng = np.random.default_rng(0)
    parameters = jax.tree.map(lambda x: rng.normal(size=x.shape) / np.sqrt(x.shape[0]), nnx.to_pure_dict(state))
    cells = rng.normal(size=(3, 2, 3, 32))
    single = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), (parameters, cells))
    captioner = nnx.merge(graphdef, single[0])
    found = captioner.decoder(words, jnp.ones_like(words, bool), captioner.memory(single[1]))

    def norm(x, its):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * its["scale"] + its["bias"]

    def attention(x, source, its, mask):
        q, k, v = (
            np.stack([of @ its[w][:, n] for n in range(2)]) for of, w in ((x, "w_q"), (source, "w_k"), (source, "w_v"))
        )
        scores = np.where(mask, q @ k.swapaxes(-1, -2) / np.sqrt(8), -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        heads = weights / weights.sum(-1, keepdims=True) @ v
        return sum(heads[n] @ its["w_o"][n] for n in range(2))

    def places(count, width):
        angles = np.arange(count)[:, None] / 10000 ** (np.arange(0, width, 2) / width)
        return np.stack([np.sin(angles), np.cos(angles)], -1).reshape(count, width)

    decoder, into = parameters["decoder"], parameters["into_memory"]
    rows, columns = places(2, 8)[:, None].repeat(3, 1), places(3, 8)[None].repeat(2, 0)
    memory = cells @ into["kernel"] + into["bias"] + 3 * np.concatenate([rows, columns], -1)
    memory = memory.reshape(3, 6, 16)
    embedding = decoder["embed"]["embedding"]
    x = embedding[np.asarray(words)] * np.sqrt(16) + places(T, 16)
    for its in decoder["blocks"].values():
        h = norm(x, its["norm_1"])
        x = x + attention(h, h, its["self_attention"], np.tril(np.ones((T, T), bool)))
        x = x + attention(norm(x, its["norm_2"]), memory, its["cross_attention"], True)
        hidden = norm(x, its["norm_3"]) @ its["mlp"]["linear_1"]["kernel"] + its["mlp"]["linear_1"]["bias"]
        x = x + np.maximum(hidden, 0) @ its["mlp"]["linear_2"]["kernel"] + its["mlp"]["linear_2"]["bias"]
    np.testing.assert_allclose(found, norm(x, decoder["norm"]) @ embedding.T, rtol=1e-3, atol=1e-3)


def test_a_word_changes_nothing_before_it(captioner, images, words):
    is_word = jnp.ones_like(words, bool)
    changed = words.at[:, 3].set((words[:, 3] - 4 + 1) % (V - 4) + 4)
    before, after = captioner(images, words, is_word), captioner(images, changed, is_word)
    np.testing.assert_array_equal(before[:, :3], after[:, :3])
    assert (np.asarray(before[:, 3:]) != np.asarray(after[:, 3:])).any()


def test_padding_changes_nothing(captioner, images, words):
    short = captioner(images, words[:, :4], jnp.ones((3, 4), bool))
    padded = words.at[:, 4:].set(PAD)
    np.testing.assert_allclose(captioner(images, padded, padded != PAD)[:, :4], short, rtol=1e-5, atol=1e-6)


def test_cached_decoding_equals_the_full_forward(captioner, images, words):
    full = captioner(images, words, jnp.ones_like(words, bool))
    memory, cache = captioner.memory(captioner.see(images)), captioner.decoder.empty_cache(3, 1, T)
    for t in range(T):
        logits, cache = captioner.decoder.step(words[:, t : t + 1], memory, cache)
        np.testing.assert_allclose(logits[:, 0], full[:, t], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda rngs: Decoder(CONFIG, V, rngs=rngs),
        lambda rngs: GPT2Decoder(CONFIG, 16, V, rngs=rngs),
        lambda rngs: GPT2Decoder(dataclasses.replace(CONFIG, tied=False), 16, V, rngs=rngs),
        lambda rngs: BertDecoder(CONFIG, 16, V, rngs=rngs),
    ],
    ids=["plain", "gpt2", "untied", "bert"],
)
def test_words_are_as_likely_by_an_output_matrix_that_is_laid_down(make, words):
    decoder = make(nnx.Rngs(0))
    memory = decoder.project(jax.random.normal(jax.random.key(3), (3, 4, 16)))
    expected = decoder(words, jnp.ones_like(words, bool), memory)
    decoder.lay_down_output()
    found = decoder(words, jnp.ones_like(words, bool), memory)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    decoder.output_columns[...] += 1
    assert not np.allclose(decoder(words, jnp.ones_like(words, bool), memory), expected)


def test_captions_go_on_from_their_parents_without_moving_what_is_cached(captioner, images):
    words = jax.random.randint(jax.random.key(2), (3, 2, T), 4, V)
    parents = jnp.array([[1, 0], [0, 0], [1, 1]])
    memory, cache = captioner.memory(captioner.see(images)), captioner.decoder.empty_cache(3, 2, T)
    for t in range(3):
        _, cache = captioner.decoder.step(words[:, :, t], memory, cache)
    cache = cache.follow(parents)
    inherited = jnp.take_along_axis(words, parents[:, :, None], axis=1)
    whole = jnp.concatenate([inherited[:, :, :3], words[:, :, 3:]], axis=2).reshape(6, T)
    full = captioner(images, whole, jnp.ones_like(whole, bool)).reshape(3, 2, T, V)
    for t in range(3, T):
        logits, cache = captioner.decoder.step(words[:, :, t], memory, cache)
        np.testing.assert_allclose(logits, full[:, :, t], rtol=1e-4, atol=1e-5)


def test_several_captions_of_an_image_share_its_memory(captioner, images, words):
    alone = captioner(images, words, jnp.ones_like(words, bool))
    twice = jnp.repeat(words, 2, axis=0)
    np.testing.assert_allclose(captioner(images, twice, twice != PAD)[::2], alone, rtol=1e-5, atol=1e-6)


def test_gradients_reach_the_image_from_every_word(captioner, images, words):
    def word_3(images):
        return captioner(images, words, jnp.ones_like(words, bool))[:, 3].var()

    reached = jnp.abs(jax.grad(word_3)(images)).sum((1, 2, 3))
    assert (reached > 1e-6).all()


def test_one_beam_is_greedy(captioner, images):
    memory = captioner.memory(captioner.see(images))
    one = beam_search(alone(captioner.decoder, memory), T, beams=1)
    np.testing.assert_array_equal(one.tokens, greedy(alone(captioner.decoder, memory), T).tokens)


def test_scores_are_log_probabilities_of_what_was_found(captioner, images):
    memory = captioner.memory(captioner.see(images))
    found = beam_search(alone(captioner.decoder, memory), T, beams=3, normaliser=length_power(0.0))
    assert (np.diff(np.asarray(found.scores), axis=1) <= 0).all()
    for k in range(3):
        tokens = found.tokens[:, k]
        inputs = jnp.concatenate([jnp.full((3, 1), START), tokens[:, :-1]], axis=1)
        logits = captioner(images, inputs, inputs != PAD)
        logits = logits.at[:, :, jnp.array([0, 1, 3])].set(-jnp.inf)
        log_p = jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[:, :, None], -1)[:, :, 0]
        expected = jnp.where(tokens != PAD, log_p, 0.0).sum(1)
        np.testing.assert_allclose(found.scores[:, k], expected, rtol=1e-4, atol=1e-4)


def test_nothing_follows_the_end(captioner, images):
    tokens = np.asarray(greedy(alone(captioner.decoder, captioner.memory(captioner.see(images))), 12).tokens)
    ended = np.cumsum(tokens == END, axis=-1) - (tokens == END) > 0
    assert (tokens[ended] == PAD).all()


def test_places_are_added_as_loud_as_configured():
    cells = jax.random.normal(jax.random.key(0), (1, 2, 3, 32))
    quiet, loud = (
        Captioner(dataclasses.replace(CONFIG, position_scale=scale), V, rngs=nnx.Rngs(0)).encode(cells)
        for scale in (1.0, 3.0)
    )
    np.testing.assert_allclose((loud - quiet)[0], 2 * grid_sinusoids(2, 3, 16).reshape(6, 16), atol=1e-5)


def test_the_embedding_begins_such_that_logits_vary_as_states():
    wide = Captioner(dataclasses.replace(CONFIG, width=256, heads=8), 500, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(wide.decoder.embed.embedding[...].std(), 1 / 16, rtol=0.02)


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize(
    "see",
    [
        lambda captioner, images: captioner.see(images, nnx.Rngs(0)),
        lambda captioner, images: captioner.see_from(captioner.glance(images), nnx.Rngs(0)),
    ],
)
def test_stages_that_learn_count_their_statistics_from_pixels_and_from_a_glance(see):
    encoder = EncoderConfig("resnet18", ends_after=2, frozen_stages=1, batch_norm="trained")
    captioner = Captioner(dataclasses.replace(CONFIG, encoder=encoder), V, rngs=nnx.Rngs(0))
    see(captioner, jax.random.normal(jax.random.key(0), (2, 32, 32, 3)))
    counted = nnx.to_pure_dict(nnx.state(captioner, nnx.BatchStat))["encoder"]
    as_they_began = lambda tree: [bool((leaf == 0).all() or (leaf == 1).all()) for leaf in jax.tree.leaves(tree)]
    assert all(as_they_began([counted["stem"], counted["blocks"][0]]))
    assert not any(as_they_began(counted["blocks"][1]))


@pytest.mark.parametrize("decoder", ["gpt2", "bert"])
@pytest.mark.parametrize(
    ("settings", "message"),
    [({}, "looks at a class token, and convnet has none"), ({"fusion": "concat"}, "fuses by cross-attention")],
)
def test_decoders_of_published_captioners_take_what_these_have(decoder, settings, message):
    encoder = EncoderConfig("vit_s16", ends_after=1) if settings else CONFIG.encoder
    with pytest.raises(ValueError, match=message):
        Captioner(dataclasses.replace(CONFIG, decoder=decoder, encoder=encoder, **settings), V, rngs=nnx.Rngs(0))
