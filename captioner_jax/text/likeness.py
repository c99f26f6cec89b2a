"""How like captions are to others, inside a compiled function: a term of CIDEr-D's sum (Vedantam et al. 2015)."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from captioner_jax.text.compiled_ngrams import ORDERS, counts, length

SIGMA = 6.0
"""Width, in words of difference in length, of CIDEr-D's penalty."""


def likeness(
    candidates: Int[Array, "B K T"],
    references: Int[Array, "B R U"],
    weights: Sequence[Float[Array, "B K _"]],
    norms: Float[Array, "B R n"],
) -> Float[Array, "B K R"]:
    r"""From 0 to 1 how like each of K candidates is to each of R references of the same image, PAD after their words.

    What CIDEr-D sums over different n-grams is summed over places here, and divided by how often each stands:

    $$\min(g(c), g(r)) \cdot g(r) = \sum_i \frac{1}{h_i(c)} \min(h_i(c), h_i(r)) \, h_i(r) \, \mathrm{idf}_i^2,
    \qquad \lVert g(c) \rVert^2 = \sum_i h_i(c) \, \mathrm{idf}_i^2$$

    where h_i(s) is how often caption s has the n-gram that begins at place i of the candidate. `weights` are these idf;
    `norms` are the references', by idf of the same kind.
    """
    own, words = candidates.T, references.T
    in_own = counts(own, own)
    in_reference = counts(own[:, :, None], words[:, None])
    cosines = jnp.zeros((own.shape[1], *words.shape[1:]))  # [K R B]
    for n, weight in enumerate(weights):
        square = (weight**2).T
        h, r = in_own[n], in_reference[n]
        dots = (jnp.minimum(h[:, :, None], r) * r * (square / jnp.maximum(h, 1))[:, :, None]).sum(0)
        both = jnp.sqrt((h * square).sum(0))[:, None] * norms.T[n][None]
        cosines += jnp.where(both > 0, dots / jnp.where(both > 0, both, 1), 0) / ORDERS
    longer = length(candidates).T[:, None] - length(references).T[None]
    cosines *= jnp.exp(-(longer.astype(jnp.float32) ** 2) / (2 * SIGMA**2))
    return jnp.moveaxis(cosines, -1, 0)


def norms(words: Int[Array, "I R U"], weights: Sequence[Float[Array, "I R _"]]) -> Float[Array, "I R n"]:
    r"""$$\lVert g^n \rVert$$ of each caption, by the idf of the n-grams that begin at its places."""
    both = zip(counts(words.T, words.T), weights, strict=True)
    return jnp.stack([jnp.sqrt((h.T * w**2).sum(-1)) for h, w in both], axis=-1)
