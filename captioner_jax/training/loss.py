"""The loss: how many nats the model needs for a word of the captions, on average."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

# Positions whose logits are there at a time, where they are computed by parts.
PART = 8


def token_losses(
    logits: Float[Array, "B T V"], targets: Int[Array, "B T"], smoothing: float = 0.0
) -> Float[Array, "B T"]:
    r"""$$-\sum_v q(v) \log p(v), \qquad q(v) = (1 - \epsilon)\,[v = \mathrm{target}] + \epsilon / V$$ at each position.

    Cross-entropy in nats against smoothed labels (Szegedy et al. 2016, "Rethinking the Inception Architecture",
    section 7); with `smoothing` epsilon = 0 it is the negative log-likelihood.
    """
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
    of_target = jnp.take_along_axis(log_p, targets[:, :, None], axis=-1)[:, :, 0]
    return -(1 - smoothing) * of_target - smoothing * log_p.mean(-1)


def masked_sum(losses: Float[Array, "B T"], is_word: Bool[Array, "B T"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The sum over words, padding left out, and their number: sums can be added up across batches, means cannot."""
    return jnp.where(is_word, losses, 0.0).sum(), is_word.sum().astype(jnp.float32)


def sum_by_parts(
    logits_of: Callable[[Float[Array, "B 1 D"]], Float[Array, "B 1 V"]],
    x: Float[Array, "B T D"],
    targets: Int[Array, "B T"],
    is_word: Bool[Array, "B T"],
    smoothing: float = 0.0,
) -> Float[Array, ""]:
    """The sum over words of the losses of `logits_of(x)`, of which a few positions' are there at a time.

    Neither all logits [B T V] nor anything of their size is kept: what the way back needs of them is computed again
    (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost").
    """

    @jax.checkpoint
    def of_position(one: tuple[Float[Array, "B D"], Int[Array, " B"], Bool[Array, " B"]]) -> Float[Array, ""]:
        x, targets, is_word = (each[:, None] for each in one)
        return masked_sum(token_losses(logits_of(x), targets, smoothing), is_word)[0]

    positions = jax.tree.map(lambda each: each.swapaxes(0, 1), (x, targets, is_word))
    return jax.lax.map(of_position, positions, batch_size=PART).sum()
