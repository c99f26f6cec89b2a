"""One update of the parameters, and the loss on data that is only looked at."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from captioner_jax.config import TrainConfig
from captioner_jax.data.features import cells_of
from captioner_jax.data.images import Preprocessing
from captioner_jax.data.pipeline import Batch
from captioner_jax.devices import sums_over_images
from captioner_jax.model.captioner import Captioner
from captioner_jax.model.names import Parameters
from captioner_jax.model.precision import in_precision
from captioner_jax.model.rematerialisation import rematerialise
from captioner_jax.text.special import PAD
from captioner_jax.training.gradients import norms_by_group
from captioner_jax.training.learning import KeyPath, divided, in_encoder, in_stages, is_statistic, joined
from captioner_jax.training.loss import masked_sum, sum_by_parts, token_losses
from captioner_jax.training.placement import ONE_DEVICE, Placement


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
    bad: Bool[Array, ""]
    """Is the loss not finite, or the gradient not, or as long as `train.spike`?"""
    told: dict[str, Float[Array, ""]]
    """What the objective tells besides."""
    norms: dict[str, Float[Array, ""]]
    """Of the gradient of each group of parameters."""


TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


class Counts(NamedTuple):
    """What sums over a batch are divided by. Of a whole batch, before any part of it is looked at."""

    images: Float[Array, ""]
    """That can be used."""
    words: Float[Array, ""]
    """Of all captions, END among them."""

    @staticmethod
    def of(batch: Batch) -> "Counts":
        """Those of a batch, or of a part of one."""
        images, is_word = jnp.asarray(batch.usable).sum(), jnp.asarray(batch.tokens)[:, :, 1:] != PAD
        return Counts(images.astype(jnp.float32), is_word.sum().astype(jnp.float32))


@runtime_checkable
class Objective(Protocol):
    """What is made small: a function of captioner, cells, batch and random key, and what it tells besides.

    The batch may be a part of a whole one. What comes back is the part's share: its sums, divided by the counts of the
    whole. Shares can be added up over parts and devices, means over parts with unlike padding cannot.

    A pytree, so that what it knows of the data is an argument of the compiled step, not a constant in it.
    """

    def __call__(
        self, captioner: Captioner, cells: Float[Array, "B y x C"], batch: Batch, whole: Counts, key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]: ...


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CrossEntropy:
    """The mean over the batch's words of their loss, with dropout."""

    smoothing: float = dataclasses.field(default=0.0, metadata={"static": True})

    def __call__(
        self, captioner: Captioner, cells: Float[Array, "B y x C"], batch: Batch, whole: Counts, key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """The loss alone."""
        tokens, rngs = jnp.asarray(batch.tokens), nnx.Rngs(dropout=key)
        total, _ = caption_loss(captioner, cells, tokens, self.smoothing, rngs)
        return total / jnp.maximum(whole.words, 1), {}


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
    placement: Placement = ONE_DEVICE,
) -> TrainStep:
    """The compiled update. Its state is donated: the one passed in is gone, the one that comes back takes its memory.

    State, batch and objective lie where `placement` puts them. Where the encoder, or its first `frozen_stages`, does
    not learn, at this step or ever, nothing is computed for that.
    """
    is_learned, moves = learned_by(config, frozen_stages), moved_by(config, frozen_stages)
    devices = placement.devices

    def loss_of(
        learned: Parameters, others: Parameters, batch: Batch, objective: Objective, whole: Counts, key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], tuple[dict[str, Float[Array, ""]], Parameters]]:
        """The batch's share of the objective; of what that tells; and the variables that are not learned, statistics
        counted on."""
        variables = joined(learned, others)
        captioner = nnx.merge(graphdef, in_precision(variables, config.precision))
        devices.share_statistics(captioner)
        if config.remat:
            rematerialise(captioner)
        rngs = nnx.Rngs(dropout=key) if encoder_learns else None
        cells = cells_of(captioner, batch.images, preprocessing, rngs)
        cells = cells if encoder_learns else jax.lax.stop_gradient(cells)
        loss, told = objective(captioner, cells, batch, whole, key)
        counted, _ = divided(nnx.to_pure_dict(nnx.state(captioner)), is_statistic)
        return loss, (told, joined(counted, others))

    def train_step(state: TrainState, batch: Batch, objective: Objective) -> tuple[TrainState, Metrics]:
        key = devices.own_key(jax.random.fold_in(jax.random.key(config.seed), state.step))
        whole = devices.total(Counts.of(batch))
        learned, others = divided(state.parameters, is_learned)
        gradient = jax.value_and_grad(loss_of, has_aux=True)

        def shares(others: Parameters, part: Batch, key: PRNGKeyArray) -> tuple[Parameters, Any]:
            (loss, (told, others)), gradients = gradient(learned, others, part, objective, whole, key)
            return others, (loss, told, gradients)

        others, sums = in_parts(shares, others, batch, key, config.accumulate)
        loss, told, gradients = devices.total(sums)
        updates, memory = optimizer.update(gradients, state.optimizer, learned)
        parameters = joined(cast(Parameters, optax.apply_updates(learned, updates)), others)
        average = state.average
        if average is not None and config.ema_decay is not None:
            average = averaged(average, divided(parameters, moves)[0], state.step, config.ema_decay)
        norm, unusable = optax.tree.norm(gradients), devices.total((~jnp.asarray(batch.usable)).sum())
        good = jnp.isfinite(loss) & (norm < (config.spike or jnp.inf))
        after = TrainState(state.step + 1, parameters, memory, average)
        if config.bad_batches == "skip":
            unmoved = dataclasses.replace(state, step=after.step)
            after = jax.tree.map(functools.partial(_if, good), after, unmoved, is_leaf=_is_schedule)
        return after, Metrics(loss, norm, unusable, ~good, told, norms_by_group(gradients))

    compiled = placement.compile(train_step)
    return lambda state, batch: compiled(state, batch, objective)


def _is_schedule(node: Any) -> bool:
    """Is it the optimizer's count of steps for a learning rate, which goes on whatever becomes of a step?"""
    return isinstance(node, optax.ScaleByScheduleState)


def _if(good: Bool[Array, ""], new: Any, old: Any) -> Any:
    return new if _is_schedule(new) else jnp.where(good, new, old)


def in_parts(
    shares: Callable[[Parameters, Batch, PRNGKeyArray], tuple[Parameters, Any]],
    others: Parameters,
    batch: Batch,
    key: PRNGKeyArray,
    parts: int,
) -> tuple[Parameters, Any]:
    """What `shares` gives for the parts of a batch, one after another, added up; `others` go from part to part.

    Part i takes rows i, i + parts, ..., so that each device's share of the batch is cut, and no row moves.
    """
    if parts == 1:
        return shares(others, batch, key)
    cut = jax.tree.map(lambda x: jnp.asarray(x).reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), batch)

    def add(carry: tuple[Parameters, Any], part: tuple[Batch, PRNGKeyArray]) -> tuple[tuple[Parameters, Any], None]:
        others, sums = carry
        others, more = shares(others, *part)
        return (others, jax.tree.map(jnp.add, sums, more)), None

    _, of_one = jax.eval_shape(shares, others, jax.tree.map(lambda x: x[0], cut), key)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), of_one)
    (others, sums), _ = jax.lax.scan(add, (others, zeros), (cut, jax.random.split(key, parts)))
    return others, sums


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
    """The compiled sum of negative log-likelihoods over a batch's words, and their number."""

    def evaluation_step(parameters: Parameters, batch: Batch) -> tuple[Float[Array, ""], Float[Array, ""]]:
        captioner = nnx.merge(graphdef, parameters)
        cells = cells_of(captioner, batch.images, preprocessing)
        return caption_loss(captioner, cells, jnp.asarray(batch.tokens))

    return sums_over_images(evaluation_step, whole=[0])


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
    is_word, decoder = targets != PAD, captioner.decoder
    x = decoder.read(inputs, inputs != PAD, captioner.memory(cells, rngs), rngs)
    if decoder.recomputes:
        return sum_by_parts(decoder.logits, x, targets, is_word, smoothing), is_word.sum().astype(jnp.float32)
    return masked_sum(token_losses(decoder.all_logits(x), targets, smoothing), is_word)


def moved_by(config: TrainConfig, frozen_stages: int) -> Callable[[KeyPath], bool]:
    """Which variables change: what is learned, if only from a later step on, and statistics that are counted."""
    return lambda path: not (in_encoder(path) if config.encoder_frozen else in_stages(path, frozen_stages))


def learned_by(config: TrainConfig, frozen_stages: int) -> Callable[[KeyPath], bool]:
    """Which variables the optimizer moves."""
    moves = moved_by(config, frozen_stages)
    return lambda path: moves(path) and not is_statistic(path)
