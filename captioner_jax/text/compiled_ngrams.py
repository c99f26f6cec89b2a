"""N-grams of token ids inside a compiled function: captions are rows of an array, filled up with PAD.

Where n-grams are counted they are columns: what is computed of all images alike then lies side by side.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from captioner_jax.text.special import PAD

ORDERS = 4
"""BLEU and CIDEr look at n-grams of 1 to 4 words."""
# Words of a caption whose n-grams a number of 8 bits can count.
LONGEST = int(np.iinfo(np.int8).max)


def counts(a: Int[Array, "T ..."], b: Int[Array, "U ..."]) -> list[Float[Array, "_ ..."]]:
    """How often b has the n-gram that begins at each place of a, for n = 1 ... ORDERS; 0 where that is no n-gram.

    Raises ValueError for captions longer than LONGEST.
    """
    if len(b) > LONGEST:
        raise ValueError(f"captions of {len(b)} words are too long to count their n-grams")
    same = (b[:, None] == a[None]) & (a != PAD)[None]
    longer, found = same, []
    for n in range(1, min(ORDERS, len(a)) + 1):
        if n > 1:
            longer = longer[:-1, :-1] & same[n - 1 :, n - 1 :]
        found.append(longer.sum(0, dtype=jnp.int8).astype(jnp.float32))  # short numbers: many at a time
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
