r"""Attention, from its formulas (Vaswani et al. 2017, "Attention Is All You Need", section 3.2).

The alphabet of shapes in this package; other letters are told where they are used:

    B batch    T target length    S source length    N heads    H head size    D model width
    F feed-forward width    V vocabulary    L layers    Y/X image height/width    y/x its cells
    C channels    K beams    G captions an image, or groups of beams    P positions written so far
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int


class KeyValue(NamedTuple):
    """Keys and values of a source, a head apart: what queries attend to, and what a decoding cache holds.

    Heads come before positions, so that those of each head lie together; and keys lie as the columns of K^T, which
    Q K^T takes as it lies: XLA would turn them round at every step on CPUs.
    """

    columns: Float[Array, "B N H S"]
    values: Float[Array, "B N S H"]

    @staticmethod
    def of(keys: Float[Array, "B N S H"], values: Float[Array, "B N S H"]) -> "KeyValue":
        """These keys, laid down as columns, and values."""
        return KeyValue(_transposed(keys), values)

    @property
    def keys(self) -> Float[Array, "B N S H"]:
        """K itself; in a compiled program this and the product's own transposition cancel out, and nothing is moved."""
        return _transposed(self.columns)

    def write(self, new: "KeyValue", start: Int[Array, ""]) -> "KeyValue":
        """Keys and values of T positions put in place of those at positions start ... start + T - 1."""
        columns = jax.lax.dynamic_update_slice_in_dim(self.columns, new.columns, start, axis=3)
        values = jax.lax.dynamic_update_slice_in_dim(self.values, new.values, start, axis=2)
        # Or XLA, on CPUs and of one image, writes into two copies: one for what reads it next, one for the cache.
        return jax.lax.optimization_barrier(KeyValue(columns, values))


def causal_mask(length: int) -> Bool[Array, "1 1 T T"]:
    """True where target position t may look at position s: s <= t (Vaswani et al. 2017, section 3.2.3)."""
    t = jnp.arange(length)
    return (t[None, :] <= t[:, None])[None, None]


def padding_mask(is_token: Bool[Array, "B S"]) -> Bool[Array, "B 1 1 S"]:
    """True where a source position holds a token, for every head and every query."""
    return is_token[:, None, None, :]


# "..." broadcasts with "*B"; of "*#B", which says so, jaxtyping cannot check the sizes that an export leaves open.
def scores(q: Float[Array, "*B N T H"], k: Float[Array, "... N S H"]) -> Float[Array, "*B N T S"]:
    r"""$$\frac{Q K^\top}{\sqrt{d_k}}$$: how well each key fits each query, in float32 whatever the type of q and k."""
    return jnp.matmul(q, _transposed(k), preferred_element_type=jnp.float32) / math.sqrt(q.shape[-1])


def masked_softmax(
    scores: Float[Array, "*B N T S"], mask: Bool[Array, "... #N #T S"] | None
) -> Float[Array, "*B N T S"]:
    """Each row a distribution: zero where `mask` is False; a row masked throughout becomes uniform rather than NaN."""
    if mask is not None:
        scores = jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
    return jax.nn.softmax(scores, axis=-1)


def attention_weights(
    q: Float[Array, "B N T H"], k: Float[Array, "B N S H"], mask: Bool[Array, "#B #N #T S"] | None = None
) -> Float[Array, "B N T S"]:
    r"""$$\mathrm{softmax}\left(\frac{Q K^\top}{\sqrt{d_k}}\right)$$ (Vaswani et al. 2017, equation 1), in float32."""
    return masked_softmax(scores(q, k), mask)


def read(weights: Float[Array, "*B N T S"], v: Float[Array, "... N S H"]) -> Float[Array, "*B N T H"]:
    r"""$$A V$$: what each head reads by its weights A; by `attention_weights`, the whole of equation 1."""
    return jnp.matmul(weights.astype(v.dtype), v)


class MultiHeadAttention(nnx.Module):
    r"""N attentions side by side, each in its own subspace (Vaswani et al. 2017, section 3.2.2).

    $$\mathrm{MultiHead}(Q, K, V) = \mathrm{Concat}(\mathrm{head}_1, \ldots, \mathrm{head}_N)\, W^O, \qquad
      \mathrm{head}_n = \mathrm{Attention}(Q W_n^Q,\ K W_n^K,\ V W_n^V)$$

    Self-attention where queries and source are one sequence, cross-attention where they are two. The source comes
    projected (`project`), so that a memory, or the words before, need projecting only once.
    """

    def __init__(self, width: int, heads: int, *, bias: bool = False, source: int | None = None, rngs: nnx.Rngs):
        """`bias` adds one to each projection, as later networks do; `source` is the source's width, if it is not D.

        Raises ValueError where `width` D does not divide into `heads` N heads of equal size H.
        """
        if width % heads:
            raise ValueError(f"a width of {width} does not divide into {heads} heads")
        head_size = width // heads
        split = nnx.initializers.lecun_normal(in_axis=0, out_axis=(1, 2))
        merge = nnx.initializers.lecun_normal(in_axis=(0, 1), out_axis=2)
        self.w_q = nnx.Param(split(rngs.params(), (width, heads, head_size)))
        self.w_k = nnx.Param(split(rngs.params(), (source or width, heads, head_size)))
        self.w_v = nnx.Param(split(rngs.params(), (source or width, heads, head_size)))
        self.w_o = nnx.Param(merge(rngs.params(), (heads, head_size, width)))
        self.bias = Biases(width, heads) if bias else None

    def project(self, source: Float[Array, "B S D"]) -> KeyValue:
        """K W^K and V W^V of a source."""
        keys = jnp.einsum("bsd,dnh->bsnh", source, self.w_k[...])
        values = jnp.einsum("bsd,dnh->bsnh", source, self.w_v[...])
        if self.bias is not None:
            keys, values = keys + self.bias.k[...][None, None], values + self.bias.v[...][None, None]
        return KeyValue.of(_heads_first(keys), _heads_first(values))

    def __call__(
        self, x: Float[Array, "B T D"], source: KeyValue, mask: Bool[Array, "#B #N #T S"] | None = None
    ) -> Float[Array, "B T D"]:
        """What each of the T queries x W^Q reads from a projected source of S positions."""
        return self.read(self.weights(x, source, mask), source)

    def weights(
        self, x: Float[Array, "B T D"], source: KeyValue, mask: Bool[Array, "#B #N #T S"] | None = None
    ) -> Float[Array, "B N T S"]:
        """By which each head reads: `attention_weights` of the queries x W^Q. Variants score otherwise here."""
        return attention_weights(self.queries(x), source.keys, mask)

    def read(self, weights: Float[Array, "B N T S"], source: KeyValue) -> Float[Array, "B T D"]:
        """What is read by these weights, merged."""
        return self.merge(read(weights, source.values))

    def queries(self, x: Float[Array, "B T D"]) -> Float[Array, "B N T H"]:
        """x W^Q."""
        q = jnp.einsum("btd,dnh->btnh", x, self.w_q[...])
        return _heads_first(q if self.bias is None else q + self.bias.q[...][None, None])

    def merge(self, heads: Float[Array, "B N T H"]) -> Float[Array, "B T D"]:
        """Concat(head_1 ... head_N) W^O."""
        out = jnp.tensordot(jnp.swapaxes(heads, 1, 2), self.w_o[...], axes=2)
        return out if self.bias is None else out + self.bias.o[...][None, None]


class Biases(nnx.Module):
    """Those of the four projections of a `MultiHeadAttention`."""

    def __init__(self, width: int, heads: int):
        head_size = width // heads
        self.q = nnx.Param(jnp.zeros((heads, head_size)))
        self.k = nnx.Param(jnp.zeros((heads, head_size)))
        self.v = nnx.Param(jnp.zeros((heads, head_size)))
        self.o = nnx.Param(jnp.zeros(width))


def _transposed(x: Float[Array, "*B P Q"]) -> Float[Array, "*B Q P"]:
    """The matrix of each head."""
    return jnp.swapaxes(x, -2, -1)


def _heads_first(x: Float[Array, "B T N H"]) -> Float[Array, "B N T H"]:
    """Transposed once projected: an einsum straight to this shape would transpose the weights instead."""
    return jnp.swapaxes(x, 1, 2)
