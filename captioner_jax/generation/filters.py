"""What sampling draws from: functions that make a distribution [B K V], in log-probabilities, sharper or shorter.

Each normalises what it leaves, so that they may follow each other in any order.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Filter = Callable[[Float[Array, "B K V"]], Float[Array, "B K V"]]


def temperature(tau: float) -> Filter:
    r"""$$p_i^{1/\tau} / \sum_j p_j^{1/\tau}$$: below 1 sharper, above 1 flatter."""
    return lambda log_p: jax.nn.log_softmax(log_p / tau)


def top_k(k: int) -> Filter:
    """The k likeliest words (Fan et al. 2018, "Hierarchical Neural Story Generation", section 5.3)."""

    def likeliest(log_p: Float[Array, "B K V"]) -> Float[Array, "B K V"]:
        least = jax.lax.top_k(log_p, min(k, log_p.shape[-1]))[0][..., -1:]
        return _at_least(log_p, least)

    return likeliest


def top_p(p: float) -> Filter:
    """The fewest words, the likeliest first, that hold p of the probability.

    Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration", equations 2 and 3.
    """

    def nucleus(log_p: Float[Array, "B K V"]) -> Float[Array, "B K V"]:
        falling = -jnp.sort(-jax.nn.log_softmax(log_p), axis=-1)
        before = jnp.cumsum(jnp.exp(falling), axis=-1) - jnp.exp(falling)
        least = jnp.min(jnp.where((before < p) | (p == 1), falling, jnp.inf), axis=-1, keepdims=True)  # sums round
        return _at_least(jax.nn.log_softmax(log_p), least)

    return nucleus


def min_p(share: float) -> Filter:
    """Words at least this share as likely as the likeliest (Nguyen et al. 2024, "Min-p Sampling")."""
    return lambda log_p: _at_least(log_p, log_p.max(-1, keepdims=True) + math.log(share))


def _at_least(log_p: Float[Array, "B K V"], least: Float[Array, "B K 1"]) -> Float[Array, "B K V"]:
    return jax.nn.log_softmax(jnp.where(log_p >= least, log_p, -jnp.inf))
