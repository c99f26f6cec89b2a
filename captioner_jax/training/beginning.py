"""A captioner before its first step: random, but for an encoder with published weights."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from captioner_jax.config import Config, EncoderConfig
from captioner_jax.data.images import Preprocessing
from captioner_jax.errors import UserError
from captioner_jax.model.captioner import Captioner
from captioner_jax.pretrained.encoder import with_published
from captioner_jax.pretrained.load import NORMALISATIONS, Loaded
from captioner_jax.training.optimizer import make_optimizer
from captioner_jax.training.step import TrainState, first_state


class Beginning(NamedTuple):
    """The model's structure, its first state, what images must go through for it, and where its encoder is from."""

    graphdef: nnx.GraphDef[Captioner]
    state: TrainState
    preprocessing: Preprocessing
    encoder: str


def begin(config: Config, vocabulary: int) -> Beginning:
    """Raises UserError where the configuration contradicts itself or published weights do not fit it."""
    _check(config)
    try:
        captioner = Captioner(config.model, vocabulary, rngs=nnx.Rngs(config.train.seed))
        size = config.data.image_size
        jax.eval_shape(captioner.see, jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32))
    except ValueError as error:
        raise UserError(f"model: {error}") from error
    graphdef, variables = nnx.split(captioner)
    parameters = nnx.to_pure_dict(variables)
    encoder, normalisation = config.model.encoder, config.model.encoder.normalisation or "imagenet"
    about = f"{encoder.kind} from scratch"
    if encoder.weights is not None:
        parameters["encoder"], loaded = with_published(encoder, parameters["encoder"])
        normalisation, about = loaded.normalisation, _about(config, loaded)
    mean, deviation = NORMALISATIONS[normalisation]
    state = first_state(parameters, make_optimizer(config.train), config.train, encoder.frozen_stages)
    return Beginning(graphdef, state, Preprocessing(size, mean, deviation), about)


def _check(config: Config) -> None:
    """Raises UserError for settings that cannot be meant together."""
    encoder, frozen = config.model.encoder, config.train.encoder_frozen
    if encoder.kind == "convnet" and encoder.weights is not None:
        raise UserError("model.encoder.weights: no weights are published for convnet; name a --model.encoder.kind")
    if encoder.kind == "convnet" and config.train.encoder_layer_decay < 1:
        raise UserError("train.encoder_layer_decay: it is for the stages of a classic encoder, not for convnet")
    if encoder.weights is None and frozen:
        raise UserError("train.encoder_frozen: a random encoder would stay so; name --model.encoder.weights for it")
    if encoder.weights is None and _keeps_statistics(encoder):
        raise UserError("a random encoder has no statistics to keep: --model.encoder.batch-norm trained")
    if frozen and encoder.batch_norm == "trained":
        raise UserError("model.encoder.batch_norm: one that is frozen (train.encoder_frozen) learns no statistics")
    if encoder.frozen_stages:
        _check_stages(encoder, frozen)
    if config.data.features is not None and not (frozen or encoder.frozen_stages):
        raise UserError(
            "data.features are of an encoder that does not change: --train.encoder-frozen, "
            "or of stages that do not: --model.encoder.frozen-stages"
        )
    data = config.data
    if data.views > 1 and data.features is None:
        raise UserError("data.views are kept in a folder: name it with --data.features")
    if (
        data.features is not None
        and data.views == 1
        and (data.crop < 1 or data.flip or data.jitter or data.randaugment)
    ):
        raise UserError("data.crop, flip, jitter and randaugment are for the second view on: ask for more --data.views")


def _check_stages(encoder: EncoderConfig, frozen: bool) -> None:
    """Raises UserError where the first stages cannot stay as they were published."""
    if not encoder.kind.startswith(("resnet", "vgg", "densenet")):
        raise UserError("model.encoder.frozen_stages: these are stages of resnet, vgg and densenet")
    if frozen:
        raise UserError(
            "model.encoder.frozen_stages: all of them are frozen by train.encoder_frozen; take one of these"
        )
    if encoder.weights is None:
        raise UserError("model.encoder.frozen_stages: random ones would stay so; name --model.encoder.weights")
    if encoder.batch_norm == "trained":
        raise UserError("model.encoder.batch_norm: stages that are frozen (frozen_stages) learn no statistics")


def _keeps_statistics(encoder: EncoderConfig) -> bool:
    has_batch_norm = encoder.kind.startswith(("resnet", "densenet")) or encoder.kind.endswith("_bn")
    return has_batch_norm and encoder.batch_norm == "frozen"


def _about(config: Config, loaded: Loaded) -> str:
    """In words. Raises UserError where a part would stay random that should not."""
    encoder = config.model.encoder
    frozen, first = config.train.encoder_frozen, config.train.encoder_from
    how = "frozen" if frozen else f"learning from step {first} on" if first else "learning"
    about = f"{encoder.kind} with the weights of {loaded.origin}, {how}"
    if not loaded.from_scratch:
        return about
    absent = ", ".join(dict.fromkeys(".".join(name.split(".")[:2]) for name in loaded.from_scratch))
    if frozen or _keeps_statistics(encoder):
        learning = "let it learn" if frozen else "set --model.encoder.batch-norm trained"
        raise UserError(
            f"{loaded.origin} has no {absent}: end before it with --model.encoder.ends-after, or {learning}"
        )
    return f"{about}; {absent}, which it does not have, from scratch"
