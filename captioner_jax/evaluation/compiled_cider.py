"""CIDEr-D of token ids, computed on the device: what self-critical training is rewarded by, without leaving it."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from captioner_jax.evaluation.cider import SIGMA
from captioner_jax.evaluation.compiled_ngrams import counts, filled, length
from captioner_jax.evaluation.ngram_table import NgramTable
from captioner_jax.evaluation.ngrams import ORDERS

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
        norms = [_norms(table, words[at : at + CHUNK]) for at in range(0, len(words), CHUNK)]
        return CompiledCiderD(table, words, jnp.concatenate(norms), jnp.asarray(number))

    def score(self, candidates: Int[Array, "B K T"], images: Int[Array, " B"]) -> Float[Array, "B K"]:
        r"""CIDEr-D of K candidates for each of B of the images, PAD after their words; `evaluation.cider.cider_d`.

        What is summed over different n-grams there is summed over places here, and divided by how often each stands:

        $$\min(g(c), g(r)) \cdot g(r) = \sum_i \frac{1}{h_i(c)} \min(h_i(c), h_i(r)) \, h_i(r) \, \mathrm{idf}_i^2,
        \qquad \lVert g(c) \rVert^2 = \sum_i h_i(c) \, \mathrm{idf}_i^2$$

        where h_i(s) is how often caption s has the n-gram that begins at place i of the candidate.
        """
        references = self.words[images]
        own, words, norms = candidates.T, references.T, self.norms[images].T
        in_own = counts(own, own)
        in_reference = counts(own[:, :, None], words[:, None])
        cosines = jnp.zeros((own.shape[1], *words.shape[1:]))  # [K R B]
        for n, weight in enumerate(self.table.weights(candidates)):
            square = (weight**2).T
            h, r = in_own[n], in_reference[n]
            dots = (jnp.minimum(h[:, :, None], r) * r * (square / jnp.maximum(h, 1))[:, :, None]).sum(0)
            both = jnp.sqrt((h * square).sum(0))[:, None] * norms[n][None]
            cosines += jnp.where(both > 0, dots / jnp.where(both > 0, both, 1), 0) / ORDERS
        longer = length(candidates).T[:, None] - length(references).T[None]
        cosines *= jnp.exp(-(longer.astype(jnp.float32) ** 2) / (2 * SIGMA**2))
        return (10 * cosines.sum(1) / self.number[images][None]).T


@jax.jit
def _norms(table: NgramTable, words: Int[Array, "I R U"]) -> Float[Array, "I R n"]:
    both = zip(counts(words.T, words.T), table.weights(words), strict=True)
    return jnp.stack([jnp.sqrt((h.T * w**2).sum(-1)) for h, w in both], axis=-1)
