"""Greedy and beam search: one loop over a fixed-size cache, which goes in and comes out, batched over images.

Both take a decoder and its projected memory of B images and are meant to be called inside `jax.jit`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from captioner_jax.model.attention import KeyValue
from captioner_jax.model.decoder import Cache, Decoder
from captioner_jax.text.special import END, PAD, START, UNKNOWN

NEVER_WRITTEN = (PAD, START, UNKNOWN)


class Found(NamedTuple):
    """Captions, the best of each image first: ids (END included, then PAD) and the score they were ranked by."""

    tokens: Int[Array, "B K T"]
    scores: Float[Array, "B K"]


class _Beams(NamedTuple):
    tokens: Int[Array, "B K T"]
    log_p: Float[Array, "B K"]
    lengths: Int[Array, "B K"]
    done: Bool[Array, "B K"]
    last: Int[Array, "B K"]
    cache: Cache


def greedy(decoder: Decoder, memory: list[KeyValue], length: int) -> Found:
    """The likeliest word at each step, until END or `length` words; scored by log-probability."""
    images = memory[0].keys.shape[0]
    one_each = (images, 1)

    def unfinished(state: _Beams) -> Bool[Array, ""]:
        return (state.cache.length < length) & ~state.done.all()

    def step(state: _Beams) -> _Beams:
        log_p, cache = _next_word(decoder, memory, state)
        word = jnp.where(state.done, PAD, log_p.argmax(-1))
        gain = jnp.where(state.done, 0.0, log_p.max(-1))
        return _Beams(
            tokens=state.tokens.at[:, :, state.cache.length].set(word),
            log_p=state.log_p + gain,
            lengths=state.lengths + (~state.done).astype(jnp.int32),
            done=state.done | (word == END),
            last=word,
            cache=cache,
        )

    end = jax.lax.while_loop(unfinished, step, _start(decoder, one_each, length, jnp.zeros(one_each)))
    return Found(end.tokens, end.log_p)


def beam_search(decoder: Decoder, memory: list[KeyValue], length: int, beams: int, length_power: float = 0.7) -> Found:
    r"""The K best captions that a search of width K finds, by $$\log p(w) / |w|^{\alpha}$$, END counted in |w|.

    A finished caption keeps its place among the K as long as no candidate scores higher. The normalisation is that of
    Wu et al. 2016, "Google's Neural Machine Translation System", equation 14, without its constant 5; alpha is
    `length_power`, and 0 ranks by probability alone. With one beam this is greedy search.
    """
    images = memory[0].keys.shape[0]

    def unfinished(state: _Beams) -> Bool[Array, ""]:
        running = ~state.done & jnp.isfinite(state.log_p)
        return (state.cache.length < length) & running.any()

    def step(state: _Beams) -> _Beams:
        next_log_p, cache = _next_word(decoder, memory, state)
        vocabulary = next_log_p.shape[-1]
        only_pad = jnp.where(jnp.arange(vocabulary) == PAD, 0.0, -jnp.inf)
        total = state.log_p[:, :, None] + jnp.where(state.done[:, :, None], only_pad, next_log_p)
        lengths = state.lengths + (~state.done).astype(jnp.int32)
        scores = total / lengths[:, :, None].astype(jnp.float32) ** length_power
        _, best = jax.lax.top_k(scores.reshape(images, beams * vocabulary), beams)
        parent, word = best // vocabulary, best % vocabulary
        of_parent = lambda x: jnp.take_along_axis(x, parent, axis=1)  # noqa: E731
        return _Beams(
            tokens=_reorder(state.tokens, parent).at[:, :, state.cache.length].set(word),
            log_p=jnp.take_along_axis(total.reshape(images, -1), best, axis=1),
            lengths=of_parent(lengths),
            done=of_parent(state.done) | (word == END),
            last=word,
            cache=Cache([_reorder_cache(layer, parent) for layer in cache.layers], cache.length),
        )

    first_alone = jnp.where(jnp.arange(beams) == 0, 0.0, -jnp.inf)
    start = _start(decoder, (images, beams), length, jnp.broadcast_to(first_alone, (images, beams)))
    end = jax.lax.while_loop(unfinished, step, start)
    return Found(end.tokens, end.log_p / jnp.maximum(end.lengths, 1).astype(jnp.float32) ** length_power)


def _start(decoder: Decoder, shape: tuple[int, int], length: int, log_p: Float[Array, "B K"]) -> _Beams:
    images, beams = shape
    return _Beams(
        tokens=jnp.full((images, beams, length), PAD, jnp.int32),
        log_p=log_p,
        lengths=jnp.zeros(shape, jnp.int32),
        done=jnp.zeros(shape, bool),
        last=jnp.full(shape, START, jnp.int32),
        cache=decoder.empty_cache(images * beams, length),
    )


def _next_word(decoder: Decoder, memory: list[KeyValue], state: _Beams) -> tuple[Float[Array, "B K V"], Cache]:
    logits, cache = decoder.step(state.last.reshape(-1), memory, state.cache)
    logits = logits.at[:, jnp.asarray(NEVER_WRITTEN)].set(-jnp.inf)
    return jax.nn.log_softmax(logits).reshape(*state.last.shape, -1), cache


def _reorder(x: Array, parent: Int[Array, "B K"]) -> Array:
    """x [B K ...] with each beam replaced by its parent."""
    return jax.vmap(lambda beams, of: beams[of])(x, parent)


def _reorder_cache(layer: KeyValue, parent: Int[Array, "B K"]) -> KeyValue:
    images, beams = parent.shape
    return jax.tree.map(lambda x: _reorder(x.reshape(images, beams, *x.shape[1:]), parent).reshape(x.shape), layer)
