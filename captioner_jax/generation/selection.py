"""Which of a beam search's candidates live on. A candidate is a parent, one of K captions so far, and its next word."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from captioner_jax.generation.constraints import SoFar
from captioner_jax.text.special import PAD

# Candidates of which `top` first looks for the best one alone.
BLOCK = 100


class Chosen(NamedTuple):
    """K candidates: their parents, by number among the K before, their words, and whether they may be; else they fill a
    place for which there is none."""

    parents: Int[Array, "B K"]
    words: Int[Array, "B K"]
    possible: Bool[Array, "B K"]


class Best:
    """The K best."""

    def __init__(self, beams: int):
        self.begins: Bool[np.ndarray, " K"] = np.arange(beams) == 0
        """Which of the K, all alike at the start, are there; the others fill up from these."""

    def choose(self, scores: Float[Array, "B K V"], so_far: SoFar) -> Chosen:
        """K of the K * V candidates by their scores (minus infinity: it may not be) and the captions so far."""
        return _best(scores, scores.shape[1])


class Diverse:
    r"""G groups of K/G, each of which is kept from the words that the groups before it choose at the same step.

    $$\mathrm{score} - \lambda \, \#\{\text{beams of earlier groups whose next word is this one}\}$$ decides:
    Vijayakumar et al. 2018, "Diverse Beam Search", equation 5 with Hamming diversity. Scores stay as they are.
    """

    def __init__(self, beams: int, groups: int, strength: float):
        """Raises ValueError where K does not divide by G."""
        if beams % groups:
            raise ValueError(f"{beams} beams do not divide into {groups} groups")
        self.each = beams // groups
        self.strength = strength
        self.begins = np.arange(beams) % self.each == 0

    def choose(self, scores: Float[Array, "B K V"], so_far: SoFar) -> Chosen:
        taken = jnp.zeros((scores.shape[0], scores.shape[-1]), scores.dtype)
        groups = []
        for first in range(0, scores.shape[1], self.each):
            group = scores[:, first : first + self.each] - self.strength * taken[:, None, :]
            chosen = _best(group, self.each)
            new = jax.nn.one_hot(chosen.words, scores.shape[-1], dtype=scores.dtype)
            taken = taken + new.sum(1, where=chosen.possible[..., None]).at[:, PAD].set(0.0)
            groups.append(chosen._replace(parents=chosen.parents + first))
        return _side_by_side(groups)


class Banks:
    """The best for each number of wanted words said, so that a caption need not say them all at its end.

    Of C words there are C + 1 banks of K captions: Hokamp and Liu 2017, "Lexically Constrained Decoding for Sequence
    Generation Using Grid Beam Search", section 3.
    """

    def __init__(self, beams: int, wanted: Sequence[int]):
        """`wanted` are different words, one or more."""
        self.each = beams
        self.wanted = jnp.asarray(wanted, jnp.int32)
        self.begins = np.arange(beams * (len(wanted) + 1)) == 0

    def choose(self, scores: Float[Array, "B K V"], so_far: SoFar) -> Chosen:
        missing, is_new = so_far.lacks(self.wanted, scores.shape[-1])
        said = len(self.wanted) - missing + is_new.astype(jnp.int32)
        return _side_by_side(
            [_best(jnp.where(said == count, scores, -jnp.inf), self.each) for count in range(len(self.wanted) + 1)]
        )


Selection = Best | Diverse | Banks


def _best(scores: Float[Array, "B K V"], count: int) -> Chosen:
    """The `count` best of all candidates."""
    images, _, vocabulary = scores.shape
    value, best = top(scores.reshape(images, -1), count)
    return Chosen(best // vocabulary, best % vocabulary, jnp.isfinite(value))


def top(scores: Float[Array, "B N"], count: int) -> tuple[Float[Array, "B K"], Int[Array, "B K"]]:
    """The `count` best and their numbers, as `jax.lax.top_k` tells them.

    They are in the `count` blocks whose best are best, and nothing but these is sorted: on CPUs a tenth of the work.
    """
    images, candidates = scores.shape
    if candidates <= count * BLOCK:
        value, best = jax.lax.top_k(scores, count)
        return value, best
    padded = jnp.pad(scores, ((0, 0), (0, -candidates % BLOCK)), constant_values=-jnp.inf)
    blocks = jax.lax.top_k(padded.reshape(images, -1, BLOCK).max(-1), count)[1]
    # In their order, so that of equal candidates the first is found first.
    numbers = (jnp.sort(blocks)[:, :, None] * BLOCK + jnp.arange(BLOCK)[None, None]).reshape(images, -1)
    value, best = jax.lax.top_k(jnp.take_along_axis(padded, numbers, axis=1), count)
    return value, jnp.take_along_axis(numbers, best, axis=1)


def _side_by_side(parts: list[Chosen]) -> Chosen:
    return Chosen(*(jnp.concatenate(values, axis=1) for values in zip(*parts, strict=True)))
