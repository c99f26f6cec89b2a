"""Greedy, beam search and sampling: one loop over a fixed-size cache, which goes in and comes out, batched over images.

All take an ensemble of decoders with their memories of B images and are meant to be called inside `jax.jit`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Key

from captioner_jax.generation.arithmetic import Codes, even_codes, read_word, refreshed
from captioner_jax.generation.constraints import Constraint, SoFar, constrained
from captioner_jax.generation.ensemble import Ensemble
from captioner_jax.generation.filters import Filter
from captioner_jax.generation.selection import Best, Selection
from captioner_jax.model.decoder import Cache
from captioner_jax.text.special import END, PAD, START


class Found(NamedTuple):
    """K captions an image: ids (END included, then PAD), log-probability, and the score they are ranked by.

    One of minus infinity has come to a dead end: constraints have left no word to go on with.
    """

    tokens: Int[Array, "B K T"]
    log_p: Float[Array, "B K"]
    scores: Float[Array, "B K"]


# Of captions' lengths in tokens, END among them: what their log-probabilities are divided by.
Normaliser = Callable[[Float[Array, "B K"]], Float[Array, "B K"]]


def length_power(alpha: float) -> Normaliser:
    r"""$$|w|^\alpha$$: 0 ranks by probability alone, 1 by the mean log-probability of a word."""
    return lambda lengths: jnp.maximum(lengths, 1.0) ** alpha


def gnmt_penalty(alpha: float) -> Normaliser:
    r"""$$(5 + |w|)^\alpha / (5 + 1)^\alpha$$ (Wu et al. 2016, "Google's Neural Machine Translation System", eq. 14)."""
    return lambda lengths: ((5 + lengths) / 6) ** alpha


class _Captions(NamedTuple):
    tokens: Int[Array, "B K T"]
    log_p: Float[Array, "B K"]
    lengths: Int[Array, "B K"]
    done: Bool[Array, "B K"]
    last: Int[Array, "B K"]
    caches: list[Cache]

    @property
    def written(self) -> Int[Array, ""]:
        """Places written."""
        return self.caches[0].length


Carried = TypeVar("Carried")
# Of each caption the next word, by its distribution, the place and what is carried from word to word; and that.
Choose = Callable[[Float[Array, "B K V"], Int[Array, ""], Carried], tuple[Int[Array, "B K"], Carried]]


def greedy(ensemble: Ensemble, length: int, constraints: Sequence[Constraint] = ()) -> Found:
    """The likeliest word at each step, until END or `length` tokens."""
    choose = lambda log_p, _, nothing: (likeliest(log_p), nothing)  # noqa: E731
    return _one_by_one(ensemble, length, 1, constraints, choose, None)


def likeliest(log_p: Float[Array, "*B V"]) -> Int[Array, "*B"]:
    """The likeliest word, of several the first: argmax by two reductions of numbers, of which CPUs do many at a time,
    in place of one of pairs."""
    log_p = jax.lax.optimization_barrier(log_p)  # or each reduction might compute, and round, it for itself
    words = jnp.arange(log_p.shape[-1], dtype=jnp.int32)
    return jnp.where(log_p == log_p.max(-1, keepdims=True), words, words[-1]).min(-1)


def sample(
    ensemble: Ensemble,
    length: int,
    count: int,
    keys: Key[Array, " B"],
    constraints: Sequence[Constraint] = (),
    filters: Sequence[Filter] = (),
) -> Found:
    """`count` captions an image, each word drawn from its distribution as the filters leave it; two may be the same.

    Log-probabilities are those before the filters. What is drawn for an image follows from it and its key alone.
    """

    def choose(log_p: Float[Array, "B K V"], step: Int[Array, ""], nothing: None) -> tuple[Int[Array, "B K"], None]:
        drawn = jax.vmap(jax.random.categorical)(_fold_in(keys, step), _filtered(log_p, filters))
        return drawn.astype(jnp.int32), nothing

    return _one_by_one(ensemble, length, count, constraints, choose, None)


def sample_evenly(
    ensemble: Ensemble,
    length: int,
    count: int,
    keys: Key[Array, " B"],
    constraints: Sequence[Constraint] = (),
    filters: Sequence[Filter] = (),
) -> Found:
    """As `sample`, but the captions of an image are not drawn each for itself: any beginning that one of them is likely
    to have stands as often as is to be expected, to within two.

    A mean over them varies less, and a word takes one random number, not one for each of the vocabulary.
    """

    def choose(log_p: Float[Array, "B K V"], step: Int[Array, ""], codes: Codes) -> tuple[Int[Array, "B K"], Codes]:
        return read_word(_filtered(log_p, filters), refreshed(codes, _fold_in(keys, step + 1)))

    return _one_by_one(ensemble, length, count, constraints, choose, even_codes(_fold_in(keys, 0), count))


def _fold_in(keys: Key[Array, " B"], step: Int[ArrayLike, ""]) -> Key[Array, " B"]:
    return jax.vmap(jax.random.fold_in, (0, None))(keys, step)


def _filtered(log_p: Float[Array, "B K V"], filters: Sequence[Filter]) -> Float[Array, "B K V"]:
    for filter in filters:
        log_p = filter(log_p)
    return log_p


def _one_by_one(
    ensemble: Ensemble,
    length: int,
    count: int,
    constraints: Sequence[Constraint],
    choose: Choose[Carried],
    carried: Carried,
) -> Found:
    """Captions whose words are chosen for good, whatever the others' are."""

    def step(state: _Captions, carried: Carried) -> tuple[_Captions, Carried]:
        log_p, caches = ensemble.next_word(state.last, state.caches)
        log_p = constrained(log_p, SoFar(state.tokens, state.written), constraints)
        chosen, carried = choose(log_p, state.written, carried)
        word = jnp.where(state.done, PAD, chosen)
        gain = jnp.take_along_axis(log_p, word[:, :, None], axis=-1)[:, :, 0]
        total = jnp.where(state.done, state.log_p, state.log_p + gain)
        state = _Captions(
            tokens=state.tokens.at[:, :, state.written].set(word),
            log_p=total,
            lengths=state.lengths + (~state.done).astype(jnp.int32),
            done=state.done | (word == END) | jnp.isneginf(total),
            last=word,
            caches=caches,
        )
        return state, carried

    alone = ensemble.empty_caches(ensemble.images * count, 1, length)
    start = _start(jnp.zeros((ensemble.images, count)), length, alone)
    end, _ = jax.lax.while_loop(lambda now: _unfinished(now[0]), lambda now: step(*now), (start, carried))
    return Found(end.tokens, end.log_p, end.log_p)


def beam_search(
    ensemble: Ensemble,
    length: int,
    beams: int,
    constraints: Sequence[Constraint] = (),
    normaliser: Normaliser = length_power(0.7),  # noqa: B008
    selection: Selection | None = None,
) -> Found:
    r"""The captions that a search of width K finds, by $$\log p(w)$$ over the normaliser of |w|, the best first.

    A finished caption keeps its place among the K until K others score higher. With one beam this is greedy
    search. `selection` says which candidates live on; if it is None, the K best of all.
    """
    selection = selection or Best(beams)
    step = _beam_step(ensemble, constraints, normaliser, selection)
    end = jax.lax.while_loop(_unfinished, step, _all_beams(ensemble, length, selection))
    scores = end.log_p / normaliser(end.lengths.astype(jnp.float32))
    best = jnp.argsort(-scores, axis=1)[:, :beams]
    return Found(_reorder(end.tokens, best), *(jnp.take_along_axis(x, best, axis=1) for x in (end.log_p, scores)))


class Beams(NamedTuple):
    """The K captions that a search has in hand after each of its steps, T of them; minus infinity: an empty place."""

    tokens: Int[Array, "B T K T"]
    log_p: Float[Array, "B T K"]


def beam_steps(
    ensemble: Ensemble,
    length: int,
    beams: int,
    constraints: Sequence[Constraint] = (),
    normaliser: Normaliser = length_power(0.7),  # noqa: B008
    selection: Selection | None = None,
) -> Beams:
    """All that `beam_search` went through, for those who want to see it."""
    selection = selection or Best(beams)
    step = _beam_step(ensemble, constraints, normaliser, selection)

    def recorded(state: _Captions, _: None) -> tuple[_Captions, Beams]:
        state = step(state)
        return state, Beams(state.tokens, state.log_p)

    _, steps = jax.lax.scan(recorded, _all_beams(ensemble, length, selection), length=length)
    return Beams(*(jnp.moveaxis(x, 0, 1) for x in steps))


def _all_beams(ensemble: Ensemble, length: int, selection: Selection) -> _Captions:
    first = jnp.where(selection.begins, 0.0, -jnp.inf)
    shared = ensemble.empty_caches(ensemble.images, first.size, length)
    return _start(jnp.broadcast_to(first, (ensemble.images, first.size)), length, shared)


def _beam_step(
    ensemble: Ensemble, constraints: Sequence[Constraint], normaliser: Normaliser, selection: Selection
) -> Callable[[_Captions], _Captions]:
    """One more word for each beam, or a place among them lost to another's."""
    images = ensemble.images

    def step(state: _Captions) -> _Captions:
        log_p, caches = ensemble.next_word(state.last, state.caches)
        so_far = SoFar(state.tokens, state.written)
        log_p = constrained(log_p, so_far, constraints)
        only_pad = jnp.where(jnp.arange(log_p.shape[-1]) == PAD, 0.0, -jnp.inf)
        total = state.log_p[:, :, None] + jnp.where(state.done[:, :, None], only_pad, log_p)
        lengths = state.lengths + (~state.done).astype(jnp.int32)
        scores = total / normaliser(lengths.astype(jnp.float32))[:, :, None]
        parent, word, possible = selection.choose(scores, so_far)
        of_parent = lambda x: jnp.take_along_axis(x, parent, axis=1)  # noqa: E731
        log_p_of_chosen = total[jnp.arange(images)[:, None], parent, word]
        return _Captions(
            tokens=_reorder(state.tokens, parent).at[:, :, state.written].set(word),
            log_p=jnp.where(possible, log_p_of_chosen, -jnp.inf),
            lengths=of_parent(lengths),
            done=of_parent(state.done) | (word == END),
            last=word,
            caches=[cache.follow(parent) for cache in caches],
        )

    return step


def different(found: Found, count: int) -> Found:
    """The best `count` of each image's captions that differ; a score of minus infinity where there are not so many."""
    same = (found.tokens[:, :, None] == found.tokens[:, None]).all(-1)
    scores = jnp.where(jnp.tril(same, -1).any(-1), -jnp.inf, found.scores)
    best = jnp.argsort(-scores, axis=1)[:, :count]
    log_p, scores = (jnp.take_along_axis(x, best, axis=1) for x in (found.log_p, scores))
    return Found(_reorder(found.tokens, best), log_p, scores)


def _unfinished(state: _Captions) -> Bool[Array, ""]:
    """Not every caption has ended, or come to a dead end, or filled its places."""
    return (state.written < state.tokens.shape[-1]) & (~state.done & jnp.isfinite(state.log_p)).any()


def _start(log_p: Float[Array, "B K"], length: int, caches: list[Cache]) -> _Captions:
    return _Captions(
        tokens=jnp.full((*log_p.shape, length), PAD, jnp.int32),
        log_p=log_p,
        lengths=jnp.zeros(log_p.shape, jnp.int32),
        done=jnp.zeros(log_p.shape, bool),
        last=jnp.full(log_p.shape, START, jnp.int32),
        caches=caches,
    )


def _reorder(x: Array, parent: Int[Array, "B K"]) -> Array:
    """x [B K ...] with each beam replaced by its parent."""
    return jax.vmap(lambda beams, of: beams[of])(x, parent)
