"""Settings of a run that cannot be meant together, found before anything is read."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from captioner_jax.bundle import abstract
from captioner_jax.config import Config, DataConfig, EncoderConfig, SelfCriticalConfig, TrainConfig
from captioner_jax.errors import UserError
from captioner_jax.model import bert, gpt2
from captioner_jax.text.compiled_ngrams import LONGEST


def check_settings(config: Config) -> None:
    """Raises UserError for settings that contradict each other, whatever data, weights and devices there are."""
    _check_start(config)
    _check_objective(config)
    _check_encoder(config)
    _check_features(config)
    _check_buckets(config.data)
    _check_length(config)
    _check_sizes(config)


def check_planned(config: Config) -> None:
    """Those of them that can be told before it is known which weights there will be. Raises UserError."""
    _check_features(config)
    _check_buckets(config.data)
    _check_length(config)
    _check_sizes(config)


def _check_start(config: Config) -> None:
    """Raises UserError where it is not clear what the first parameters are, or random ones are not enough."""
    encoder, start = config.model.encoder, config.train.start
    if start is not None and encoder.weights is not None:
        raise UserError("model.encoder.weights: those of train.start would be taken; name one of the two")
    if config.train.objective == "self_critical" and start is None:
        raise UserError("train.objective: what a random captioner writes has no reward; name a --train.start")


def _check_objective(config: Config) -> None:
    """Raises UserError for settings of rewards that cannot be meant."""
    if config.train.objective == "self_critical":
        _check_rewards(config)
    elif config.self_critical != SelfCriticalConfig():
        raise UserError("self_critical: these settings are for --train.objective self_critical")


def _check_encoder(config: Config) -> None:
    """Raises UserError where the encoder cannot be, or learn, as is asked for."""
    encoder, train = config.model.encoder, config.train
    random = encoder.weights is None and train.start is None
    if encoder.kind == "convnet" and encoder.weights is not None:
        raise UserError("model.encoder.weights: no weights are published for convnet; name a --model.encoder.kind")
    _check_kind(encoder)
    if encoder.kind == "convnet" and train.encoder_layer_decay < 1:
        raise UserError("train.encoder_layer_decay: it is for the stages of a classic encoder, not for convnet")
    if random and train.encoder_frozen:
        raise UserError(
            "train.encoder_frozen: a random encoder would stay so; name --model.encoder.weights or a --train.start"
        )
    if random and keeps_statistics(encoder):
        raise UserError("a random encoder has no statistics to keep: --model.encoder.batch-norm trained")
    if train.encoder_frozen:
        _check_frozen(config)
    if encoder.frozen_stages:
        _check_stages(encoder, train.encoder_frozen, random)


def _check_features(config: Config) -> None:
    """Raises UserError where what an encoder makes of images would not stay true, or is of images that none sees."""
    data, encoder = config.data, config.model.encoder
    if data.features is not None and not (config.train.encoder_frozen or encoder.frozen_stages):
        raise UserError(
            "data.features are of an encoder that does not change: --train.encoder-frozen, "
            "or of stages that do not: --model.encoder.frozen-stages"
        )
    if data.views > 1 and data.features is None:
        raise UserError("data.views are kept in a folder: name it with --data.features")
    changed_at_random = data.crop < 1 or data.flip or data.jitter or data.randaugment
    if data.features is not None and data.views == 1 and changed_at_random:
        raise UserError("data.crop, flip, jitter and randaugment are for the second view on: ask for more --data.views")
    if data.views > 1 and not changed_at_random:
        raise UserError(
            "data.views: all would be alike, since nothing changes images: take one, or --data.crop below 1, "
            "--data.flip, --data.jitter or --data.randaugment"
        )


def _check_buckets(data: DataConfig) -> None:
    """Raises UserError for lengths of captions that do not rise up to the greatest."""
    lengths = (*data.buckets, data.max_length)
    if list(lengths) != sorted(set(lengths)):
        raise UserError(f"data.buckets must rise and stay below data.max_length, and {lengths} do not")


def _check_sizes(config: Config) -> None:
    """Raises UserError where there is no such model, or it makes nothing of images of this size."""
    size = config.data.image_size

    def cells_and_memory(parameters: dict[str, Any], image: Float[Array, "1 Y X 3"]) -> tuple[Array, Any]:
        captioner = nnx.merge(graphdef, parameters)
        cells = captioner.see(image)
        if not cells.size:
            raise ValueError(f"images of {size} pixels are too small for this encoder, which leaves no cell of them")
        return cells, captioner.memory(cells)

    try:
        graphdef, parameters = abstract(config.model, 1)
        jax.eval_shape(cells_and_memory, parameters, jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32))
    except (ValueError, TypeError) as error:
        raise UserError(f"model: {error} (data.image_size: {size})") from error


def _check_length(config: Config) -> None:
    """Raises UserError for captions longer than the decoder has places for."""
    places = {"gpt2": gpt2.PLACES, "bert": bert.PLACES}.get(config.model.decoder)
    if places is not None and config.data.max_length > places:
        raise UserError(f"data.max_length: this decoder has places for {places} tokens, not {config.data.max_length}")


def _check_frozen(config: Config) -> None:
    """Raises UserError for settings of how an encoder learns, where it does not."""
    for name in ("encoder_from", "encoder_learning_rate", "encoder_layer_decay"):
        if getattr(config.train, name) != getattr(TrainConfig(), name):
            raise UserError(f"train.{name}: it is for an encoder that learns, and yours does not: train.encoder_frozen")
    if config.model.encoder.batch_norm == "trained":
        raise UserError("model.encoder.batch_norm: one that is frozen (train.encoder_frozen) learns no statistics")


def _check_kind(encoder: EncoderConfig) -> None:
    """Raises UserError for settings that this kind of encoder has no use for."""
    is_for = {
        "ends_after": encoder.kind != "convnet",
        "resnet_version": encoder.kind in ("resnet50", "resnet101", "resnet152"),
        "batch_norm": _has_batch_norm(encoder),
    }
    for name, is_of_use in is_for.items():
        if not is_of_use and getattr(encoder, name) != getattr(EncoderConfig(), name):
            raise UserError(f"model.encoder.{name}: it is not for {encoder.kind}: leave it out")


def _check_rewards(config: Config) -> None:
    """Raises UserError where what is asked for would reward or keep something else than is meant."""
    critical, data = config.self_critical, config.data
    if config.evaluation.best == "loss":
        raise UserError("evaluation.best: rewards make the loss greater, so that it cannot decide; take cider_d")
    if critical.reward == "cider_d" and data.max_length > LONGEST:
        raise UserError(f"data.max_length: rewards count n-grams of up to {LONGEST} tokens, not {data.max_length}")
    if critical.captions == 1 and critical.baseline == "others":
        raise UserError("self_critical.captions: one has no others to be compared with; take two, or greedy")
    if critical.reward == "true" and critical.bleu_4:
        raise UserError("self_critical.bleu_4: it goes with CIDEr-D, not with what is true")
    if critical.reward == "true" and (data.flip or data.crop < 1 or data.jitter or data.randaugment):
        raise UserError("self_critical.reward: what is true of a scene is not of its image changed at random")


def _check_stages(encoder: EncoderConfig, frozen: bool, random: bool) -> None:
    """Raises UserError where the first stages cannot stay as they were published."""
    if not encoder.kind.startswith(("resnet", "vgg", "densenet")):
        raise UserError("model.encoder.frozen_stages: these are stages of resnet, vgg and densenet")
    if frozen:
        raise UserError(
            "model.encoder.frozen_stages: all of them are frozen by train.encoder_frozen; take one of these"
        )
    if random:
        raise UserError(
            "model.encoder.frozen_stages: random ones would stay so; name --model.encoder.weights or a --train.start"
        )
    if encoder.batch_norm == "trained":
        raise UserError("model.encoder.batch_norm: stages that are frozen (frozen_stages) learn no statistics")


def _has_batch_norm(encoder: EncoderConfig) -> bool:
    return encoder.kind.startswith(("resnet", "densenet")) or encoder.kind.endswith("_bn")


def keeps_statistics(encoder: EncoderConfig) -> bool:
    """Has it averages of means and deviations that training leaves as they were published?"""
    return _has_batch_norm(encoder) and encoder.batch_norm == "frozen"
