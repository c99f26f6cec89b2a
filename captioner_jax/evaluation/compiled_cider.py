"""CIDEr-D of token ids, computed on the device: what self-critical training is rewarded by, without leaving it."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from captioner_jax.evaluation.ngram_table import NgramTable
from captioner_jax.text.compiled_ngrams import filled
from captioner_jax.text.likeness import likeness, norms

# Images whose norms are computed at a time.
CHUNK = 1024


class CompiledCiderD(NamedTuple):
    """References of I images, up to R each of up to U words, prepared once."""

    table: NgramTable
    words: Int[Array, "I R U"]
    """PAD fills what is shorter, and stands alone where an image has fewer than R."""
    norms: Float[Array, "I R n"]
    r"""$$\lVert g^n(r) \rVert$$ for n = 1 ... ORDERS."""
    number: Float[Array, " I"]
    """How many references each image has."""

    @staticmethod
    def of(references: Sequence[Sequence[Sequence[int]]]) -> "CompiledCiderD":
        """Of images' references as word ids other than PAD. Document frequencies are those of these images.

        Raises ValueError where an image has none.
        """
        number = np.fromiter(map(len, references), np.float32)
        if not number.all():
            raise ValueError(f"image {int(number.argmin())} has no references")
        table, words = NgramTable.of(references), jnp.asarray(filled(references))
        of_each = [_norms(table, words[at : at + CHUNK]) for at in range(0, len(words), CHUNK)]
        return CompiledCiderD(table, words, jnp.concatenate(of_each), jnp.asarray(number))

    def score(self, candidates: Int[Array, "B K T"], images: Int[Array, " B"]) -> Float[Array, "B K"]:
        """CIDEr-D of K candidates for each of B of the images, PAD after their words; `evaluation.cider.cider_d`."""
        similar = likeness(candidates, self.words[images], self.table.weights(candidates), self.norms[images])
        return 10 * similar.sum(-1) / self.number[images][:, None]


@jax.jit
def _norms(table: NgramTable, words: Int[Array, "I R U"]) -> Float[Array, "I R n"]:
    return norms(words, table.weights(words))
