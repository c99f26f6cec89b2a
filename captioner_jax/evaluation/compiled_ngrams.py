"""N-grams of token ids inside a compiled function: captions are rows of an array, filled up with PAD."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from captioner_jax.evaluation.ngrams import ORDERS
from captioner_jax.text.special import PAD


def counts(a: Int[Array, "*#B T"], b: Int[Array, "*#B U"]) -> list[Float[Array, "*B _"]]:
    """How often b has the n-gram that begins at each place of a, for n = 1 ... ORDERS; 0 where that is no n-gram."""
    same = (b[..., :, None] == a[..., None, :]) & (a != PAD)[..., None, :]
    longer, found = same, []
    for n in range(1, min(ORDERS, a.shape[-1]) + 1):
        if n > 1:
            longer = longer[..., :-1, :-1] & same[..., n - 1 :, n - 1 :]
        found.append(longer.sum(-2, dtype=jnp.int16).astype(jnp.float32))  # short numbers: several at a time
    return found


def length(words: Int[Array, "*B T"]) -> Int[Array, "*B"]:
    """Words of each caption."""
    return (words != PAD).sum(-1)


def filled(references: Sequence[Sequence[Sequence[int]]]) -> Int[np.ndarray, "I R U"]:
    """The references of images as one array, PAD after what is shorter or fewer; U is ORDERS at least."""
    most = max(map(len, references))
    longest = max([ORDERS, *(len(caption) for captions in references for caption in captions)])
    words = np.full((len(references), most, longest), PAD, np.int32)
    for image, captions in enumerate(references):
        for number, caption in enumerate(captions):
            words[image, number, : len(caption)] = caption
    return words
