"""One update of the parameters, and the loss on data that is only looked at."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from captioner_jax.config import TrainConfig
from captioner_jax.data.features import cells_of
from captioner_jax.data.images import Preprocessing
from captioner_jax.data.pipeline import Batch
from captioner_jax.model.captioner import Captioner
from captioner_jax.text.special import PAD
from captioner_jax.training.learning import Path, divided, in_encoder, in_stages, is_statistic, joined
from captioner_jax.training.loss import masked_sum, token_losses

Parameters = dict[Any, Any]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """All that an update changes; the random numbers and the data of a step follow from its number."""

    step: Int[Array, ""]
    parameters: Parameters
    """All variables of the captioner, with statistics and what is frozen."""
    optimizer: optax.OptState
    average: Parameters | None = None
    """With `train.ema_decay`, the moving average of all that moves."""

    @property
    def best_guess(self) -> Parameters:
        """The variables to write captions with: averaged where an average is kept."""
        return self.parameters if self.average is None else joined(self.average, self.parameters)


class Metrics(NamedTuple):
    """Of one step, left on the device until they are printed."""

    loss: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    unusable: Int[Array, ""]
    told: dict[str, Float[Array, ""]]
    """What the objective tells besides."""


@runtime_checkable
class Objective(Protocol):
    """What is made small: a function of captioner, cells, batch and random key, and what it tells besides.

    A pytree, so that what it knows of the data is an argument of the compiled step, not a constant in it.
    """

    def __call__(
        self, captioner: Captioner, cells: Float[Array, "B y x C"], batch: Batch, key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]: ...


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CrossEntropy:
    """The mean over the batch's words of their loss, with dropout."""

    smoothing: float = dataclasses.field(default=0.0, metadata={"static": True})

    def __call__(
        self, captioner: Captioner, cells: Float[Array, "B y x C"], batch: Batch, key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """The loss alone."""
        tokens, rngs = jnp.asarray(batch.tokens), nnx.Rngs(dropout=key)
        total, words = caption_loss(captioner, cells, tokens, self.smoothing, rngs)
        return total / jnp.maximum(words, 1), {}


def first_state(
    parameters: Parameters, optimizer: optax.GradientTransformation, config: TrainConfig, frozen_stages: int = 0
) -> TrainState:
    """The state before the first step; the first `frozen_stages` of the encoder do not learn."""
    learned, _ = divided(parameters, learned_by(config, frozen_stages))
    moving, _ = divided(parameters, moved_by(config, frozen_stages))
    average = None if config.ema_decay is None else jax.tree.map(jnp.copy, moving)
    return TrainState(jnp.asarray(0), parameters, optimizer.init(learned), average)


def make_train_step(
    graphdef: nnx.GraphDef[Captioner],
    optimizer: optax.GradientTransformation,
    preprocessing: Preprocessing,
    config: TrainConfig,
    objective: Objective,
    *,
    frozen_stages: int = 0,
    encoder_learns: bool = True,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """The jitted update. Its state is donated: the one passed in is gone, the one that comes back takes its memory.

    Where the encoder, or its first `frozen_stages`, does not learn, at this step or ever, nothing is computed for that.
    """
    is_learned, moves = learned_by(config, frozen_stages), moved_by(config, frozen_stages)

    def loss_of(
        learned: Parameters, others: Parameters, batch: Batch, objective: Objective, key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], tuple[dict[str, Float[Array, ""]], Parameters]]:
        """The objective; what it tells, and all variables, in which statistics have been counted on."""
        captioner = nnx.merge(graphdef, joined(learned, others))
        rngs = nnx.Rngs(dropout=key) if encoder_learns else None
        cells = cells_of(captioner, jnp.asarray(batch.images), preprocessing, rngs)
        cells = cells if encoder_learns else jax.lax.stop_gradient(cells)
        loss, told = objective(captioner, cells, batch, key)
        return loss, (told, nnx.to_pure_dict(nnx.state(captioner)))

    def train_step(state: TrainState, batch: Batch, objective: Objective) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        learned, others = divided(state.parameters, is_learned)
        gradient = jax.value_and_grad(loss_of, has_aux=True)
        (loss, (told, after)), gradients = gradient(learned, others, batch, objective, key)
        updates, memory = optimizer.update(gradients, state.optimizer, learned)
        _, others = divided(after, is_learned)
        parameters = joined(cast(Parameters, optax.apply_updates(learned, updates)), others)
        average = state.average
        if average is not None and config.ema_decay is not None:
            average = averaged(average, divided(parameters, moves)[0], state.step, config.ema_decay)
        metrics = Metrics(loss, optax.tree.norm(gradients), (~batch.usable).sum(), told)
        return TrainState(state.step + 1, parameters, memory, average), metrics

    compiled = jax.jit(train_step, donate_argnums=0)
    return lambda state, batch: compiled(state, batch, objective)


def averaged(average: Parameters, after: Parameters, step: Int[Array, ""], decay: float) -> Parameters:
    r"""$\bar\theta \leftarrow d \bar\theta + (1 - d) \theta$: the past fades, where Polyak and Juditsky (1992) keep it.

    The memory d grows towards `decay` as $(1 + t) / (10 + t)$, so that the random beginning is soon forgotten.
    """
    t = step.astype(jnp.float32)
    d = jnp.minimum(decay, (1 + t) / (10 + t))
    return jax.tree.map(lambda a, p: a + (1 - d) * (p - a), average, after)


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
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The sum of the losses of a batch's words, and their number."""
    captioner = nnx.merge(graphdef, parameters)
    cells = cells_of(captioner, jnp.asarray(batch.images), preprocessing)
    return caption_loss(captioner, cells, jnp.asarray(batch.tokens))


def caption_loss(
    captioner: Captioner,
    cells: Float[Array, "B y x C"],
    tokens: Int[Array, "B G U"],
    smoothing: float = 0.0,
    rngs: nnx.Rngs | None = None,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The sum of the losses of the words of G captions an image, and their number; dropout if `rngs`."""
    tokens = tokens.reshape(-1, tokens.shape[-1])
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    logits = captioner.decoder(inputs, inputs != PAD, captioner.memory(cells, rngs), rngs)
    return masked_sum(token_losses(logits, targets, smoothing), targets != PAD)


def moved_by(config: TrainConfig, frozen_stages: int) -> Callable[[Path], bool]:
    """Which variables change: what is learned, if only from a later step on, and statistics that are counted."""
    return lambda path: not (in_encoder(path) if config.encoder_frozen else in_stages(path, frozen_stages))


def learned_by(config: TrainConfig, frozen_stages: int) -> Callable[[Path], bool]:
    """Which variables the optimizer moves."""
    moves = moved_by(config, frozen_stages)
    return lambda path: moves(path) and not is_statistic(path)
