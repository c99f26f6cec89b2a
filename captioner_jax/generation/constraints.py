"""What a caption must or must not be, as functions of the next word's log-probabilities.

Each takes log-probabilities [B K V] and the captions so far, and gives them back with what is forbidden at minus
infinity, or made less likely. They compose: any of them, in any order. What is left keeps its log-probability, but for
`repeats_cost`; nothing is scaled up to fill the gaps, so that a search still looks for the likeliest caption among
those allowed. Where nothing is left, a caption has come to a dead end.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from captioner_jax.text.special import END, PAD


class Lacking(NamedTuple):
    """Of the words that are wanted: how many a caption lacks, and which of the vocabulary these are."""

    number: Int[Array, "B K 1"]
    words: Bool[Array, "B K V"]


class SoFar(NamedTuple):
    """Captions of which the first `written` of T places are; PAD fills the rest."""

    tokens: Int[Array, "B K T"]
    written: Int[Array, ""]

    @property
    def last(self) -> Int[Array, "B K"]:
        """The newest word; PAD where there is none yet."""
        return jnp.where(self.written > 0, jnp.take(self.tokens, jnp.maximum(self.written - 1, 0), axis=-1), PAD)

    def has(self, words: Int[Array, " W"]) -> Bool[Array, "B K W"]:
        """Which of these words each caption has."""
        return (self.tokens[:, :, None, :] == words[None, None, :, None]).any(-1)

    def lacks(self, words: Int[Array, " W"], vocabulary: int) -> Lacking:
        """Which of these words, all different, each caption does not have yet."""
        lacking = ~self.has(words)
        is_lacking = (lacking[..., None] & jax.nn.one_hot(words, vocabulary, dtype=bool)[None, None]).any(2)
        return Lacking(lacking.sum(-1)[:, :, None], is_lacking)


Constraint = Callable[[Float[Array, "B K V"], SoFar], Float[Array, "B K V"]]


def constrained(
    log_p: Float[Array, "B K V"], so_far: SoFar, constraints: Sequence[Constraint]
) -> Float[Array, "B K V"]:
    """All constraints, one after the other."""
    for constraint in constraints:
        log_p = constraint(log_p, so_far)
    return log_p


def banned(words: Sequence[int]) -> Constraint:
    """These words are not written."""
    return lambda log_p, _: jnp.where(_any_of(words, log_p)[None, None], -jnp.inf, log_p)


def at_least(words: int) -> Constraint:
    """A caption has so many words or more before it ends."""

    def longer(log_p: Float[Array, "B K V"], so_far: SoFar) -> Float[Array, "B K V"]:
        return jnp.where(_any_of([END], log_p)[None, None] & (so_far.written < words), -jnp.inf, log_p)

    return longer


def at_most(words: int) -> Constraint:
    """After so many words a caption ends, whatever it was about to say; it must have a place left for that."""

    def shorter(log_p: Float[Array, "B K V"], so_far: SoFar) -> Float[Array, "B K V"]:
        return jnp.where(~_any_of([END], log_p)[None, None] & (so_far.written >= words), -jnp.inf, log_p)

    return shorter


def begins_with(words: Sequence[int]) -> Constraint:
    """The first words are these."""
    prefix = jnp.asarray([*words, 0], jnp.int32)

    def prefixed(log_p: Float[Array, "B K V"], so_far: SoFar) -> Float[Array, "B K V"]:
        wanted = prefix[jnp.minimum(so_far.written, len(words))]
        other = (jnp.arange(log_p.shape[-1]) != wanted)[None, None]
        return jnp.where(other & (so_far.written < len(words)), -jnp.inf, log_p)

    return prefixed


def does_not_end_with(words: Sequence[int], places: int) -> Constraint:
    """The last word is none of these, be it before the end or in the last of `places` words that there are room for."""

    def ends_well(log_p: Float[Array, "B K V"], so_far: SoFar) -> Float[Array, "B K V"]:
        ends_badly = _is_in(so_far.last, words)[:, :, None] & _any_of([END], log_p)[None, None]
        last_place = _any_of(words, log_p)[None, None] & (so_far.written >= places - 1)
        return jnp.where(ends_badly | last_place, -jnp.inf, log_p)

    return ends_well


def no_repeated(n: int) -> Constraint:
    """No n words in a row are written twice (Paulus et al. 2018, "A Deep Reinforced Model", section 2.5, n = 3)."""

    def new(log_p: Float[Array, "B K V"], so_far: SoFar) -> Float[Array, "B K V"]:
        length = so_far.tokens.shape[-1]
        if length < n:
            return log_p
        starts = jnp.arange(length - n + 1)
        windows = so_far.tokens[:, :, starts[:, None] + jnp.arange(n)[None]]  # every n words in a row
        newest = jnp.take(so_far.tokens, jnp.maximum(so_far.written - n + 1, 0) + jnp.arange(n - 1), axis=-1)
        same = (windows[..., :-1] == newest[:, :, None]).all(-1) & (starts + n <= so_far.written)[None, None]
        repeats = (same[..., None] & jax.nn.one_hot(windows[..., -1], log_p.shape[-1], dtype=bool)).any(2)
        return jnp.where(repeats, -jnp.inf, log_p)

    return new


def repeats_cost(penalty: float) -> Constraint:
    """The log-probability of a word that the caption has already, times `penalty` of 1 or more.

    After Keskar et al. 2019, "CTRL", section 4.1, who divide logits; log-probabilities, never positive, are multiplied.
    """

    def dearer(log_p: Float[Array, "B K V"], so_far: SoFar) -> Float[Array, "B K V"]:
        has = so_far.has(jnp.arange(log_p.shape[-1]))
        return jnp.where(has, log_p * penalty, log_p)

    return dearer


def must_say(words: Sequence[int], places: int, never_last: Sequence[int] = ()) -> Constraint:
    """A caption ends when it has all of these different words; where `places` words leave room for no others, they
    come now. Of those that are `never_last` none is left for the last place."""
    wanted = jnp.asarray(words, jnp.int32)

    def complete(log_p: Float[Array, "B K V"], so_far: SoFar) -> Float[Array, "B K V"]:
        count, is_missing = so_far.lacks(wanted, log_p.shape[-1])
        may_be_last = is_missing & ~_any_of(never_last, log_p)[None, None]
        number_of_these = may_be_last.sum(-1, keepdims=True)
        needed = jnp.where(number_of_these == 0, count + 1, count)  # another word comes after them
        kept_for_the_last = may_be_last & (number_of_these == 1) & (count > 1)
        too_soon = _any_of([END], log_p)[None, None] & (count > 0)
        too_late = (~is_missing | kept_for_the_last) & (count > 0) & (places - so_far.written <= needed)
        return jnp.where(too_soon | too_late, -jnp.inf, log_p)

    return complete


def _any_of(words: Sequence[int], log_p: Float[Array, "B K V"]) -> Bool[Array, " V"]:
    """Which words of the vocabulary are among these."""
    return jnp.zeros(log_p.shape[-1], bool).at[jnp.asarray(words, jnp.int32)].set(True)


def _is_in(x: Int[Array, "B K"], words: Sequence[int]) -> Bool[Array, "B K"]:
    return (x[:, :, None] == jnp.asarray(words, jnp.int32)[None, None]).any(-1)
