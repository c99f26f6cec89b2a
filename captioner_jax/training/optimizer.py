"""How gradients become updates: schedule, clipping, AdamW, and Muon for the matrices of hidden layers."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from captioner_jax.config import TrainConfig
from captioner_jax.model.names import stage_of
from captioner_jax.training.learning import KeyPath, in_encoder

# Muon's: the share of momentum that is kept, and the polynomial a x + b x^3 + c x^5 of its iteration (Jordan et al.).
MOMENTUM = 0.95
POLYNOMIAL = (3.4445, -4.7750, 2.0315)
# They take five; three did as well here (docs/log.md), and leave more room for rounding.
ITERATIONS = 3
# What meets words, pixels and places, not the output of another layer.
NOT_HIDDEN = {"embedding", "output", "stem", "patches", "positions"}
# Layers' parameters of three axes: [D N H], from the first axis to the others, and [N H D], from the first two.
INTO_HEADS, OUT_OF_HEADS = ("w_q", "w_k", "w_v"), ("w_o",)


def schedule(config: TrainConfig, height: float) -> optax.Schedule:
    """A linear rise to `height`, then half a cosine to zero (Loshchilov and Hutter 2017, SGDR, equation 5)."""
    return optax.warmup_cosine_decay_schedule(0.0, height, min(config.warmup, config.steps - 1), config.steps)


def make_optimizer(config: TrainConfig) -> optax.GradientTransformation:
    """AdamW (Loshchilov and Hutter 2019, algorithm 2) on gradients of limited norm (Pascanu et al. 2013).

    With a `matrix_learning_rate`, what maps one hidden layer to another learns by Muon instead (`orthogonal`); AdamW
    keeps the rest: embedding, stem, biases and normalisation scales, and an encoder that has its own learning rate.
    """
    return optax.chain(optax.clip_by_global_norm(config.clip), _by_name(config), _encoders_pace(config))


def _by_name(config: TrainConfig) -> optax.GradientTransformation:
    adamw = optax.adamw(
        schedule(config, config.learning_rate), b2=config.beta_2, weight_decay=config.weight_decay, mask=_are_matrices
    )
    if config.matrix_learning_rate is None:
        return adamw
    muon = optax.chain(
        optax.trace(MOMENTUM, nesterov=True),
        optax.stateless(lambda updates, _: jax.tree_util.tree_map_with_path(_orthogonal_parameter, updates)),
        optax.add_decayed_weights(config.weight_decay),
        optax.scale_by_learning_rate(schedule(config, config.matrix_learning_rate)),
    )
    own_pace = config.encoder_learning_rate is not None
    return optax.partition({"muon": muon, "adamw": adamw}, functools.partial(_choose, own_pace=own_pace))


def _encoders_pace(config: TrainConfig) -> optax.GradientTransformation:
    """The encoder's updates: none before its first step, then by its own learning rate, lower stages by less."""
    height = (config.encoder_learning_rate or config.learning_rate) / config.learning_rate

    def slower(updates: Any, _: Any) -> Any:
        encoder = updates.get("encoder", {})
        last = max([0, *encoder.get("blocks", []), *encoder.get("convolutions", [])])
        decay = config.encoder_layer_decay
        return jax.tree_util.tree_map_with_path(
            lambda path, update: height * decay ** _stages_above(path, last) * update, updates
        )

    begun = optax.scale_by_schedule(lambda step: jnp.where(jnp.asarray(step) >= config.encoder_from, 1.0, 0.0))
    encoders = functools.partial(jax.tree_util.tree_map_with_path, lambda path, _: in_encoder(path))
    return optax.masked(optax.chain(begun, optax.stateless(slower)), encoders)


def _stages_above(path: KeyPath, last: int) -> int:
    """How many stages (vit, clip: blocks) of an encoder come after that of a parameter; its stem lies below all.

    A transition opens the stage after it, as the strided convolutions of a ResNet do.
    """
    return last - math.ceil(min(stage_of([entry.key for entry in path[1:]]), last))


def orthogonal(x: Float[Array, "M N"]) -> Float[Array, "M N"]:
    r"""About $U V^\top$ where $X = U S V^\top$: the same directions, each of about the same length.

    Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks": again and again
    $X \leftarrow X p(X^\top X), p(G) = a + b G + c G^2$, whose polynomial drives singular values towards 1. Three times
    bring those above 0.02 of X's norm between 0.7 and 1.2. All are polynomials in one $G$, so the iteration runs on G
    and on the product Q of the p(G), as small as the shorter side, and X takes part in its first and last step only.
    """
    if x.shape[0] < x.shape[1]:
        return orthogonal(x.T).T
    a, b, c = POLYNOMIAL
    with jax.default_matmul_precision("highest"):  # errors in G grow with each step, where accelerators round operands
        x = x / (jnp.linalg.norm(x) + 1e-8)
        gram = x.T @ x
        identity = jnp.eye(len(gram), dtype=x.dtype)
        q = p = a * identity + b * gram + c * gram @ gram
        for _ in range(1, ITERATIONS):
            gram = p @ gram @ p
            p = a * identity + b * gram + c * gram @ gram
            q = q @ p
        return x @ q


def _orthogonal_parameter(path: KeyPath, update: Array) -> Array:
    """`orthogonal` of a layer's update, seen as the matrix from its inputs to its outputs.

    A layer with more outputs than inputs has the result scaled by sqrt(outputs / inputs), as Jordan et al. do.
    """
    outputs = math.prod(update.shape[-_output_axes(path, update) :])
    inputs = update.size // outputs
    return max(1.0, outputs / inputs) ** 0.5 * orthogonal(update.reshape(inputs, outputs)).reshape(update.shape)


def _output_axes(path: KeyPath, update: Array) -> int:
    """How many of the last axes are outputs. Raises ValueError for a layer that nobody has thought of here."""
    if path[-1].key in INTO_HEADS:
        return 2
    if update.ndim == 3 and path[-1].key not in OUT_OF_HEADS:
        raise ValueError(f"Muon: which axes of {jax.tree_util.keystr(path)} {update.shape} are its inputs?")
    return 1


def _choose(parameters: Any, own_pace: bool) -> Any:
    """Of each parameter, which optimizer it is for; `own_pace` is whether the encoder has its own learning rate."""

    def choose(path: KeyPath, p: Array) -> str:
        names = [entry.key for entry in path]
        is_hidden = _is_matrix(path, p) and not NOT_HIDDEN.intersection(names)
        return "muon" if is_hidden and not (own_pace and in_encoder(path)) else "adamw"

    return jax.tree_util.tree_map_with_path(choose, parameters)


def _are_matrices(parameters: Any) -> Any:
    """True for what is decayed: matrices and kernels, not biases and normalisation scales."""
    return jax.tree_util.tree_map_with_path(_is_matrix, parameters)


def _is_matrix(path: KeyPath, p: Array) -> bool:
    return p.ndim > 1 and "bias" not in [entry.key for entry in path]
