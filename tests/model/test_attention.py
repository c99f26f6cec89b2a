"""Attention equals independent implementations of it, in values and in gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import special

from captioner_jax.model.attention import (
    MultiHeadAttention,
    attention_weights,
    causal_mask,
    padding_mask,
    read,
)

B, T, S, N, H, D = 2, 5, 7, 3, 4, 12


def random(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def numpy_attention(q, k, v, mask):
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    scores = np.einsum("bnth,bnsh->bnts", q, k) / np.sqrt(q.shape[-1])
    weights = np.exp(scores - scores.max(-1, keepdims=True)) * np.broadcast_to(mask, scores.shape)
    return np.einsum("bnts,bnsh->bnth", weights / weights.sum(-1, keepdims=True), v)


def masks():
    is_token = jnp.arange(S)[None] < jnp.array([[S], [3]])
    return [jnp.ones((1, 1, T, S), bool), padding_mask(is_token), causal_mask(S)[:, :, :T]]


@pytest.mark.parametrize("which", range(3))
def test_values_equal_float64_numpy(which):
    q, k, v, mask = random(0, B, N, T, H), random(1, B, N, S, H), random(2, B, N, S, H), masks()[which]
    ours = read(attention_weights(q, k, mask), v)
    np.testing.assert_allclose(ours, numpy_attention(q, k, v, mask), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("which", range(3))
def test_values_and_gradients_equal_jax(which):
    q, k, v, mask = random(0, B, N, T, H), random(1, B, N, S, H), random(2, B, N, S, H), masks()[which]
    weight = random(3, B, N, T, H)
    ours = lambda q, k, v: (read(attention_weights(q, k, mask), v) * weight).sum()
    position_first = lambda x: jnp.swapaxes(x, 1, 2)
    fused = lambda *qkv: position_first(jax.nn.dot_product_attention(*map(position_first, qkv), mask=mask))
    theirs = lambda q, k, v: (fused(q, k, v) * weight).sum()
    np.testing.assert_allclose(ours(q, k, v), theirs(q, k, v), rtol=1e-5)
    for a, b in zip(jax.grad(ours, (0, 1, 2))(q, k, v), jax.grad(theirs, (0, 1, 2))(q, k, v), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_rows_sum_to_one_and_masked_places_get_nothing():
    mask = masks()[1]
    weights = attention_weights(random(0, B, N, T, H), random(1, B, N, S, H), mask)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-6)
    assert (np.asarray(weights)[~np.broadcast_to(mask, weights.shape)] == 0).all()


def test_softmax_is_float32_under_bfloat16():
    weights = attention_weights(random(0, B, N, T, H).astype(jnp.bfloat16), random(1, B, N, S, H).astype(jnp.bfloat16))
    assert weights.dtype == jnp.float32


def test_multi_head_attention_equals_flax():
    ours = MultiHeadAttention(D, N, rngs=nnx.Rngs(0))
    theirs = nnx.MultiHeadAttention(N, D, use_bias=False, decode=False, rngs=nnx.Rngs(1))
    for name, weight in (("query", ours.w_q), ("key", ours.w_k), ("value", ours.w_v), ("out", ours.w_o)):
        getattr(theirs, name).kernel[...] = weight[...]
    x, source = random(0, B, T, D), random(1, B, S, D)
    np.testing.assert_allclose(ours(x, ours.project(source)), theirs(x, source), rtol=1e-4, atol=1e-6)


def test_a_width_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="10 does not divide into 3 heads"):
        MultiHeadAttention(10, 3, rngs=nnx.Rngs(0))


def test_causal_mask_as_a_picture():
    assert causal_mask(3)[0, 0].astype(int).tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]


def test_the_example_of_the_book_comes_out_in_fractions():
    """docs/book/03-attention.md: three queries of two channels, worked on paper."""
    rows = lambda x: jnp.asarray(x, jnp.float32)[None, None]
    q = rows(np.sqrt(2) * np.array([[0, 0], [np.log(2), 0], [0, np.log(3)]]))
    k, v = rows([[1, 0], [0, 1], [0, 0]]), rows([[1, 0], [0, 1], [1, 1]])
    weights = [[1 / 3, 1 / 3, 1 / 3], [1 / 2, 1 / 4, 1 / 4], [1 / 5, 3 / 5, 1 / 5]]
    np.testing.assert_allclose(attention_weights(q, k)[0, 0], weights, rtol=1e-6)
    mixed = [[2 / 3, 2 / 3], [3 / 4, 1 / 2], [2 / 5, 4 / 5]]
    np.testing.assert_allclose(read(attention_weights(q, k), v)[0, 0], mixed, rtol=1e-6)


def test_matrices_begin_such_that_projections_vary_as_their_inputs():
    """With a deviation of 1 / sqrt(D), whether heads are split from the outputs or joined in the inputs."""
    layer = MultiHeadAttention(256, 8, rngs=nnx.Rngs(0))
    for matrix in (layer.w_q, layer.w_k, layer.w_v, layer.w_o):
        np.testing.assert_allclose(matrix[...].std(), 1 / 16, rtol=0.02)


def test_a_row_that_is_masked_throughout_is_even():
    q, k = jnp.ones((1, 2, 3, 4)), random(0, 1, 2, 5, 4)
    np.testing.assert_allclose(attention_weights(q, k, jnp.zeros((1, 1, 3, 5), bool)), 0.2, rtol=1e-6)


def test_scores_of_half_precision_are_summed_up_in_float32():
    q, k = (3 * jax.random.normal(jax.random.key(i), (1, 2, 5, 64), jnp.bfloat16) for i in (0, 1))
    scores = np.einsum("bnth,bnsh->bnts", *(np.asarray(x, np.float64) for x in (q, k))) / 8
    np.testing.assert_allclose(attention_weights(q, k), special.softmax(scores, axis=-1), rtol=1e-4)
