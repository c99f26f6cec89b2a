"""The ways in which image and text meet, each against its formula."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from captioner_jax.config import ModelConfig
from captioner_jax.model import attention, fusion
from captioner_jax.model.attention import KeyValue, attention_weights, causal_mask, read
from captioner_jax.model.decoder import Decoder
from captioner_jax.model.fusion import attention_to_both, make_block, prefix_mask
from tests.making import FUSIONS

CONFIG = ModelConfig(width=16, heads=2, feed_forward=32)
B, K, S, T = 2, 3, 5, 4


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def block(fusion):
    return make_block(dataclasses.replace(CONFIG, fusion=fusion), rngs=nnx.Rngs(0))


def distances(q, k):
    """Scores of another kind: the nearer a key, the higher."""
    return -jnp.square(q[..., :, None, :] - k[..., None, :, :]).sum(-1)


def plain_mean(scores, mask):
    """Shares of another kind: all that may be looked at alike."""
    may = jnp.broadcast_to(True if mask is None else mask, scores.shape).astype(jnp.float32)
    return may / may.sum(-1, keepdims=True)


def backwards(weights, v):
    """What is read, its channels turned round."""
    return (weights @ v)[..., ::-1]


def test_the_prefix_mask_drawn():
    picture = """
        11000
        11000
        11100
        11110
        11111
    """
    expected = [[c == "1" for c in row] for row in picture.split()]
    np.testing.assert_array_equal(prefix_mask(jnp.ones((1, 2), bool), causal_mask(3))[0, 0], expected)


def test_attention_to_cells_and_words_is_attention_to_both_in_a_row():
    q = normal(0, B * K, 2, T, 8)
    cells = KeyValue.of(normal(1, B, 2, S, 8), normal(2, B, 2, S, 8))
    words = KeyValue.of(normal(3, B * K, 2, T, 8), normal(4, B * K, 2, T, 8))
    both = (cells.keys, words.keys), (cells.values, words.values)
    keys, values = (jnp.concatenate([jnp.repeat(f, K, 0), t], 2) for f, t in both)
    mask = prefix_mask(jnp.ones((1, S), bool), causal_mask(T))[:, :, S:]
    expected = read(attention_weights(q, keys, mask), values)
    np.testing.assert_allclose(attention_to_both(q, cells, words, causal_mask(T)), expected, rtol=1e-4, atol=1e-5)


def test_concatenation_is_one_decoder_over_cells_and_words():
    """Written out: [F; T] through ordinary self-attention with the prefix mask, then the feed-forward network."""
    one = block("concat")
    memory, words = normal(0, B, S, 16), normal(1, B, T, 16)
    x = jnp.concatenate([memory, words], axis=1)
    h = one.norm_1(x)
    x = x + one.self_attention(h, one.self_attention.project(h), prefix_mask(jnp.ones((1, S), bool), causal_mask(T)))
    x = x + one.mlp(one.norm_2(x))
    cells, left = one.meet(memory)
    out, _ = one(words, cells, causal_mask(T))
    np.testing.assert_allclose(left, x[:, :S], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(out, x[:, S:], rtol=1e-4, atol=1e-5)


def test_weighted_fusion_from_its_formula():
    one = block("weighted")
    text, memory = normal(0, B, T, 16), normal(1, B, S, 16)
    cells, _ = one.meet(memory)
    seen = one.cross_attention(text, cells)
    f, t = np.asarray(seen, np.float64), np.asarray(text, np.float64)
    logit = f @ np.asarray(one.w_f.kernel[...]) + t @ np.asarray(one.w_t.kernel[...]) + np.asarray(one.w_t.bias[...])
    gate = 1 / (1 + np.exp(-logit))
    np.testing.assert_allclose(one.look(text, cells), gate * f + (1 - gate) * t, rtol=1e-4, atol=1e-5)
    plain = block("sigmoid")
    nnx.update(plain, nnx.state(one))
    np.testing.assert_allclose(plain.look(text, cells), gate, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_each_sequence_sees_its_own_image(fusion):
    one = block(fusion)
    memory, words = normal(0, B, S, 16), normal(1, B * K, T, 16)
    cells, _ = one.meet(memory)
    changed, _ = one.meet(memory.at[1].add(normal(2, S, 16)))
    out, other = one(words, cells, causal_mask(T))[0], one(words, changed, causal_mask(T))[0]
    np.testing.assert_array_equal(out[:K], other[:K])
    assert (np.abs(np.asarray(out - other))[K:].max((1, 2)) > 1e-3).all()


@pytest.mark.parametrize("fusion", FUSIONS)
def test_what_is_watched_is_what_happens(fusion):
    """The block with its weights written out is the block, and its weights are shares."""
    one = block(fusion)
    memory, x = normal(0, B, S, 16), normal(1, B, T, 16)
    projected, left = one.meet(memory)
    out, _ = one(x, projected, causal_mask(T))
    watched = one.watched(x, memory, causal_mask(T), jnp.ones((B, S), bool))
    np.testing.assert_allclose(watched.words, out, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(watched.cells, left, rtol=1e-4, atol=1e-5)
    words, cells, among = watched.looks
    np.testing.assert_array_equal(np.triu(words, 1), 0)
    if fusion == "concat":
        np.testing.assert_allclose(words.sum(-1) + cells.sum(-1), 1, rtol=1e-5)
        np.testing.assert_allclose(among.sum(-1), 1, rtol=1e-5)
    else:
        np.testing.assert_allclose([words.sum(-1), cells.sum(-1)], 1, rtol=1e-5)
        assert among is None


@pytest.mark.parametrize("way", FUSIONS)
@pytest.mark.parametrize(
    ("name", "other"), [("scores", distances), ("masked_softmax", plain_mean), ("read", backwards)]
)
def test_an_equation_that_is_changed_is_changed_for_learning_and_for_looking(monkeypatch, way, name, other):
    """Each formula of attention stands in one place: with another in it, what is watched is still what happens."""
    one = block(way)
    memory, x = normal(0, B, S, 16), normal(1, B, T, 16)

    def written():
        projected, left = one.meet(memory)
        return one(x, projected, causal_mask(T))[0], left

    before, _ = written()
    for module in (attention, fusion):
        if hasattr(module, name):
            monkeypatch.setattr(module, name, other)
    out, left = written()
    watched = one.watched(x, memory, causal_mask(T), jnp.ones((B, S), bool))
    assert np.abs(out - before).max() > 1e-3
    np.testing.assert_allclose(watched.words, out, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(watched.cells, left, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_cell_taken_out_is_as_if_it_had_never_been(fusion):
    one = block(fusion)
    memory, x = normal(0, B, S, 16), normal(1, B, T, 16)
    is_cell = jnp.arange(S) != 2
    without = one.watched(x, memory, causal_mask(T), jnp.tile(is_cell, (B, 1)))
    np.testing.assert_array_equal(without.looks.cells[..., 2], 0)
    fewer = one.watched(x, memory[:, is_cell], causal_mask(T), jnp.ones((B, S - 1), bool))
    np.testing.assert_allclose(without.words, fewer.words, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fusion", ["cross", "weighted", "sigmoid"])
def test_nudged_weights_are_those_that_are_read_by(fusion):
    """With all weights at cells taken away, nothing is read of them, whatever is on them."""
    one = block(fusion)
    x, everywhere = normal(1, B, T, 16), jnp.ones((B, S), bool)

    def unseeing(memory):
        looks = one.watched(x, memory, causal_mask(T), everywhere).looks
        away = looks._replace(words=jnp.zeros_like(looks.words), cells=-looks.cells)
        return one.watched(x, memory, causal_mask(T), everywhere, away)

    first, second = unseeing(normal(0, B, S, 16)), unseeing(normal(2, B, S, 16))
    np.testing.assert_array_equal(first.looks.cells, 0)
    np.testing.assert_allclose(first.words, second.words, rtol=1e-4, atol=1e-5)


def test_nudged_weights_of_a_concatenation_are_those_that_are_read_by():
    """With all weights taken away only the feed-forward network is left."""
    one = block("concat")
    memory, x, everywhere = normal(0, B, S, 16), normal(1, B, T, 16), jnp.ones((B, S), bool)
    looks = one.watched(x, memory, causal_mask(T), everywhere).looks
    away = jax.tree.map(lambda shares: -shares, looks)
    watched = one.watched(x, memory, causal_mask(T), everywhere, away)
    np.testing.assert_allclose(watched.words, x + one.mlp(one.norm_2(x)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(watched.cells, memory + one.mlp(one.norm_2(memory)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_with_all_dropped_blocks_add_nothing(fusion):
    """Dropout is wherever something is added, and on what is read."""
    config = dataclasses.replace(CONFIG, layers=1, fusion=fusion, dropout=1 - 1e-12)
    decoder, rngs = Decoder(config, 9, rngs=nnx.Rngs(0)), nnx.Rngs(dropout=0)
    memory, x = normal(0, 2, 5, 16), normal(1, 2, 5, 16)
    projected, left = decoder.blocks[0].meet(memory, rngs)
    np.testing.assert_array_equal(left, memory)
    np.testing.assert_array_equal(decoder.blocks[0](x, projected, causal_mask(5), rngs=rngs)[0], x)
    ids = jnp.full((2, 5), 6)
    np.testing.assert_array_equal(decoder.read(ids, ids > 0, [projected], rngs), 0)
