"""One decoder, or several that speak with one voice."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from captioner_jax.model.attention import KeyValue
from captioner_jax.model.captioner import Captioner
from captioner_jax.model.decoder import Cache, Decoder, Size
from captioner_jax.text.special import PAD, START, UNKNOWN

NEVER_WRITTEN = (PAD, START, UNKNOWN)


class Voice(NamedTuple):
    """A decoder and what it knows of B images."""

    decoder: Decoder
    memory: list[KeyValue]
    seen: Float[Array, "B C"] | None = None
    """The mean of the encoder's cells, by which similar photographs are found; None where nobody looks for them."""

    @staticmethod
    def of(captioner: Captioner, cells: Float[Array, "B y x C"]) -> "Voice":
        """A captioner's, of images that its encoder has made these cells of."""
        return Voice(captioner.decoder, captioner.memory(cells), cells.mean((1, 2), jnp.float32))


class Ensemble(NamedTuple):
    r"""$$p(w \mid \ldots) = \frac{1}{M} \sum_m p_m(w \mid \ldots)$$ of M decoders of one vocabulary.

    The mean of probabilities, not of logits, as in the ensembles of Vinyals et al. 2015, "Show and Tell". Padding, the
    start token and the unknown word are never written.
    """

    voices: list[Voice]

    @property
    def images(self) -> Size:
        """B."""
        return self.voices[0].memory[0].values.shape[0]

    @property
    def vocabulary(self) -> int:
        """V."""
        return self.voices[0].decoder.embed.num_embeddings

    def empty_caches(self, groups: Size, sequences: int, length: int) -> list[Cache]:
        """Of each decoder, room for `groups` of so many captions each, of up to `length` positions."""
        return [voice.decoder.empty_cache(groups, sequences, length) for voice in self.voices]

    def next_word(self, words: Int[Array, "B K"], caches: list[Cache]) -> tuple[Float[Array, "B K V"], list[Cache]]:
        """Log-probabilities of the word after these, and the caches with these in them."""
        all_log_p, after = [], []
        for voice, cache in zip(self.voices, caches, strict=True):
            logits, cache = voice.decoder.step(words.reshape(cache.past.shape[:2]), voice.memory, cache)
            all_log_p.append(log_probabilities(logits))
            after.append(cache)
        return mean_probability(all_log_p).reshape(*words.shape, -1), after


def log_probabilities(logits: Float[Array, "*B V"]) -> Float[Array, "*B V"]:
    """Of each word, by its logits; minus infinity for what is never written."""
    return jax.nn.log_softmax(logits.astype(jnp.float32).at[..., jnp.asarray(NEVER_WRITTEN)].set(-jnp.inf))


def mean_probability(log_p: Sequence[Float[Array, "*B V"]]) -> Float[Array, "*B V"]:
    r"""$$\log \frac{1}{M} \sum_m p_m(w)$$ of M log-probabilities; of one it is that, and nothing is computed."""
    if len(log_p) == 1:
        return log_p[0]
    return jax.nn.logsumexp(jnp.stack(log_p), axis=0) - math.log(len(log_p))


def alone(decoder: Decoder, memory: list[KeyValue]) -> Ensemble:
    """An ensemble of one."""
    return Ensemble([Voice(decoder, memory)])
