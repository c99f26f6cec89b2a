"""The ways in which image and text meet, each against its formula."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from captioner_jax.config import ModelConfig
from captioner_jax.model.attention import KeyValue, attention, attention_weights, causal_mask
from captioner_jax.model.fusion import CrossBlock, attention_to_both, make_block, prefix_mask

CONFIG = ModelConfig(width=16, heads=2, feed_forward=32)
B, K, S, T = 2, 3, 5, 4


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def block(fusion):
    return make_block(dataclasses.replace(CONFIG, fusion=fusion), rngs=nnx.Rngs(0))


def test_the_prefix_mask_drawn():
    picture = """
        11000
        11000
        11100
        11110
        11111
    """
    expected = [[c == "1" for c in row] for row in picture.split()]
    np.testing.assert_array_equal(prefix_mask(2, 3)[0, 0], expected)


def test_attention_to_cells_and_words_is_attention_to_both_in_a_row():
    q = normal(0, B * K, T, 2, 8)
    cells = KeyValue(normal(1, B, S, 2, 8), normal(2, B, S, 2, 8))
    words = KeyValue(normal(3, B * K, T, 2, 8), normal(4, B * K, T, 2, 8))
    row = KeyValue(*(jnp.concatenate([jnp.repeat(f, K, 0), t], 1) for f, t in zip(cells, words, strict=True)))
    mask = prefix_mask(S, T)[:, :, S:]
    expected = attention(q, row.keys, row.values, mask)
    np.testing.assert_allclose(attention_to_both(q, cells, words, causal_mask(T)), expected, rtol=1e-4, atol=1e-5)


def test_concatenation_is_one_decoder_over_cells_and_words():
    """Written out: [F; T] through ordinary self-attention with the prefix mask, then the feed-forward network."""
    one = block("concat")
    memory, words = normal(0, B, S, 16), normal(1, B, T, 16)
    x = jnp.concatenate([memory, words], axis=1)
    h = one.norm_1(x)
    x = x + one.self_attention(h, one.self_attention.project(h), prefix_mask(S, T))
    x = x + one.mlp(one.norm_2(x))
    cells, left = one.meet(memory)
    out, _ = one(words, cells, causal_mask(T))
    np.testing.assert_allclose(left, x[:, :S], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(out, x[:, S:], rtol=1e-4, atol=1e-5)


def test_weighted_fusion_from_its_formula():
    one = block("weighted")
    text, memory = normal(0, B, T, 16), normal(1, B, S, 16)
    cells, _ = one.meet(memory)
    seen = CrossBlock.look(one, text, cells)
    f, t = np.asarray(seen, np.float64), np.asarray(text, np.float64)
    logit = f @ np.asarray(one.w_f.kernel[...]) + t @ np.asarray(one.w_t.kernel[...]) + np.asarray(one.w_t.bias[...])
    gate = 1 / (1 + np.exp(-logit))
    np.testing.assert_allclose(one.look(text, cells), gate * f + (1 - gate) * t, rtol=1e-4, atol=1e-5)
    plain = block("sigmoid")
    nnx.update(plain, nnx.state(one))
    np.testing.assert_allclose(plain.look(text, cells), gate, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fusion", ["cross", "concat", "weighted", "sigmoid"])
def test_each_sequence_sees_its_own_image(fusion):
    one = block(fusion)
    memory, words = normal(0, B, S, 16), normal(1, B * K, T, 16)
    cells, _ = one.meet(memory)
    changed, _ = one.meet(memory.at[1].add(normal(2, S, 16)))
    out, other = one(words, cells, causal_mask(T))[0], one(words, changed, causal_mask(T))[0]
    np.testing.assert_array_equal(out[:K], other[:K])
    assert (np.abs(np.asarray(out - other))[K:].max((1, 2)) > 1e-3).all()


@pytest.mark.parametrize("fusion", ["cross", "weighted", "sigmoid"])
def test_looks_are_the_shares_by_which_cross_attention_reads(fusion):
    one = block(fusion)
    memory, x = normal(0, B, S, 16), normal(1, B, T, 16)
    cells, _ = one.meet(memory)
    shares = one.looks(x, cells, causal_mask(T))
    np.testing.assert_allclose(shares.sum(-1), 1, rtol=1e-5)
    h = one.norm_1(x)
    h = one.norm_2(x + one.self_attention(h, one.self_attention.project(h), causal_mask(T)))
    read = one.cross_attention.merge(jnp.einsum("bnts,bsnh->btnh", shares, cells.values))
    np.testing.assert_allclose(read, CrossBlock.look(one, h, cells), rtol=1e-4, atol=1e-5)


def test_looks_of_a_concatenation_are_its_attention_to_the_cells():
    one = block("concat")
    memory, x = normal(0, B, S, 16), normal(1, B, T, 16)
    cells, _ = one.meet(memory)
    h = one.norm_1(jnp.concatenate([memory, x], axis=1))
    whole = attention_weights(one.self_attention.queries(h), one.self_attention.project(h).keys, prefix_mask(S, T))
    np.testing.assert_allclose(one.looks(x, cells, causal_mask(T)), whole[:, :, S:, :S], rtol=1e-4, atol=1e-6)
