"""BLEU-4 of single captions, as token ids, computed on the device."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from captioner_jax.evaluation.ngrams import ORDERS
from captioner_jax.text.compiled_ngrams import counts, length


def sentence_bleu_4(candidates: Int[Array, "B K T"], references: Int[Array, "B R U"]) -> Float[Array, "B K"]:
    r"""$$\text{BP} \cdot \Big(\frac{\text{correct}_1}{\text{guess}_1}
    \prod_{n=2}^{4} \frac{\text{correct}_n + 1}{\text{guess}_n + 1}\Big)^{1/4}$$

    with the counts of `evaluation.bleu.bleu_counts`. The ones keep a caption without a common 4-gram from having
    nothing (Lin and Och 2004, "ORANGE", section 4). PAD fills what is shorter or fewer, so that
    an empty reference is none; 0 for an empty caption.
    """
    words, own = length(candidates), candidates.T
    in_references = counts(own[:, :, None], references.T[:, None])
    product = jnp.ones(words.shape)
    for n, (h, r) in enumerate(zip(counts(own, own), in_references, strict=True), 1):
        correct = (jnp.minimum(h, r.max(2)) / jnp.maximum(h, 1)).sum(0).T
        guess = jnp.maximum(words - n + 1, 0).astype(jnp.float32)
        product *= correct / jnp.maximum(guess, 1) if n == 1 else (correct + 1) / (guess + 1)
    ratio = _closest(words, references) / jnp.maximum(words, 1).astype(jnp.float32)
    return product ** (1 / ORDERS) * jnp.exp(jnp.minimum(0.0, 1.0 - ratio))


def _closest(words: Int[Array, "B K"], references: Int[Array, "B R U"]) -> Float[Array, "B K"]:
    """The length of the reference whose length is closest, the shorter of two as close."""
    lengths, words = length(references)[:, None], words[:, :, None]
    longer = (lengths > words).astype(jnp.int32)
    off = jnp.where(lengths > 0, 2 * jnp.abs(lengths - words) + longer, jnp.iinfo(jnp.int32).max)
    return jnp.take_along_axis(lengths, off.argmin(-1, keepdims=True), axis=-1)[..., 0].astype(jnp.float32)
