"""Words by numbers in [0, 1), as arithmetic coding reads them: a caption's share of them is as wide as it is likely.

The shares of the words that may come first lie side by side, in the order of the vocabulary; within a word's share
lie those of the words that may follow it, and so on. A number drawn evenly from [0, 1) thus draws a caption. N numbers,
one from each Nth of [0, 1), draw N captions that begin as differently as the captioner would have it, and the mean of
whatever is asked of them varies less: Vilnis et al. 2023, "Arithmetic Sampling: Parallel Diverse Decoding for Large
Language Models".
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

# A number is looked for among the shares of blocks of so many words, then among those of one block's words: two short
# running sums in place of a long one.
BLOCK = 64


class Codes(NamedTuple):
    """Of each caption, where in the share of its words so far its number lies (0 to 1), and how wide that share is."""

    at: Float[Array, "*B"]
    width: Float[Array, "*B"]


def even_codes(keys: Key[Array, " B"], count: int) -> Codes:
    """For each key `count` numbers, one from each part of [0, 1) of that many."""
    within = _uniform(keys, count)
    return Codes(_below_one((jnp.arange(count, dtype=within.dtype)[None] + within) / count), jnp.ones_like(within))


def refreshed(codes: Codes, keys: Key[Array, " B"]) -> Codes:
    """With numbers drawn anew where captions share their part with no other's, and digits would be lost."""
    count = codes.at.shape[1]
    return codes._replace(at=jnp.where(codes.width * count < 1, _uniform(keys, count), codes.at))


def read_word(log_p: Float[Array, "*B V"], codes: Codes) -> tuple[Int[Array, "*B"], Codes]:
    """The word in whose share each number lies, and where in it. Never one of log-probability minus infinity, unless
    all are."""
    greatest = log_p.max(-1, keepdims=True)
    p = jnp.exp(log_p - jnp.where(jnp.isfinite(greatest), greatest, 0))
    blocks = jnp.pad(p, [(0, 0)] * (p.ndim - 1) + [(0, -p.shape[-1] % BLOCK)]).reshape(*p.shape[:-1], -1, BLOCK)
    block, codes = _read(blocks.sum(-1), codes)
    place, codes = _read(jnp.take_along_axis(blocks, block[..., None, None], -2)[..., 0, :], codes)
    return block * BLOCK + place, codes


def _read(shares: Float[Array, "*B N"], codes: Codes) -> tuple[Int[Array, "*B"], Codes]:
    """The first whose share, with those before it, reaches beyond the number; shares need not sum to 1."""
    upto = jnp.where(shares > 0, jnp.cumsum(shares, -1), 0)
    whole = upto.max(-1)
    number = codes.at * whole
    chosen = (upto > number[..., None]).argmax(-1)
    share, end = (jnp.take_along_axis(x, chosen[..., None], -1)[..., 0] for x in (shares, upto))
    there = share > 0
    at = jnp.where(there, (number - (end - share)) / jnp.where(there, share, 1), 0)
    width = jnp.where(there, share / jnp.where(there, whole, 1), 1)
    return chosen.astype(jnp.int32), Codes(_below_one(at), codes.width * width)


def _below_one(at: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """In [0, 1), from which rounding may have led."""
    return jnp.clip(at, 0, 1 - jnp.finfo(at.dtype).eps)


def _uniform(keys: Key[Array, " B"], count: int) -> Float[Array, "B K"]:
    return jax.vmap(lambda key: jax.random.uniform(key, (count,)))(keys)
