"""One update of the parameters, and the loss on data that is only looked at."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from captioner_jax.config import TrainConfig
from captioner_jax.data.images import Preprocessing, normalise
from captioner_jax.data.pipeline import Batch
from captioner_jax.model.captioner import Captioner
from captioner_jax.text.special import PAD
from captioner_jax.training.loss import masked_sum, token_losses

Parameters = dict[Any, Any]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """All that an update changes; the random numbers and the data of a step follow from its number."""

    step: Int[Array, ""]
    parameters: Parameters
    optimizer: optax.OptState


class Metrics(NamedTuple):
    """Of one step, left on the device until they are printed."""

    loss: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    unusable: Int[Array, ""]


def make_train_step(
    graphdef: nnx.GraphDef[Captioner],
    optimizer: optax.GradientTransformation,
    preprocessing: Preprocessing,
    config: TrainConfig,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The jitted update. Its state is donated: the one passed in is gone, the one that comes back takes its memory."""

    def loss_of(parameters: Parameters, batch: Batch, key: PRNGKeyArray) -> Float[Array, ""]:
        rngs = nnx.Rngs(dropout=key)
        total, words = batch_loss(graphdef, parameters, batch, preprocessing, config.label_smoothing, rngs)
        return total / jnp.maximum(words, 1)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        loss, gradients = jax.value_and_grad(loss_of)(state.parameters, batch, key)
        updates, memory = optimizer.update(gradients, state.optimizer, state.parameters)
        parameters = cast(Parameters, optax.apply_updates(state.parameters, updates))
        metrics = Metrics(loss, optax.tree.norm(gradients), (~batch.usable).sum())
        return TrainState(state.step + 1, parameters, memory), metrics

    return jax.jit(train_step, donate_argnums=0)


def make_evaluation_step(
    graphdef: nnx.GraphDef[Captioner], preprocessing: Preprocessing
) -> Callable[[Parameters, Batch], tuple[Float[Array, ""], Float[Array, ""]]]:
    """The jitted sum of negative log-likelihoods over a batch's words, and their number."""
    return jax.jit(lambda parameters, batch: batch_loss(graphdef, parameters, batch, preprocessing))


def batch_loss(
    graphdef: nnx.GraphDef[Captioner],
    parameters: Parameters,
    batch: Batch,
    preprocessing: Preprocessing,
    smoothing: float = 0.0,
    rngs: nnx.Rngs | None = None,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The sum of the losses of a batch's words, and their number; an image is encoded once for all its captions."""
    images, tokens = jnp.asarray(batch.images), jnp.asarray(batch.tokens)
    tokens = tokens.reshape(-1, tokens.shape[-1])
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    captioner = nnx.merge(graphdef, parameters)
    logits = captioner(normalise(images, preprocessing), inputs, inputs != PAD, rngs)
    return masked_sum(token_losses(logits, targets, smoothing), targets != PAD)
