"""A captioner before its first step: random, but for an encoder with published weights; or one that was kept."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from captioner_jax.bundle import Bundle, abstract
from captioner_jax.config import Config, EncoderConfig, SelfCriticalConfig, TrainConfig
from captioner_jax.data.images import Preprocessing
from captioner_jax.errors import UserError
from captioner_jax.model.captioner import Captioner
from captioner_jax.model.names import stage_of
from captioner_jax.pretrained.encoder import with_published
from captioner_jax.pretrained.load import NORMALISATIONS, Loaded
from captioner_jax.text.compiled_ngrams import LONGEST
from captioner_jax.training.checkpoints import differences
from captioner_jax.training.optimizer import make_optimizer
from captioner_jax.training.step import TrainState, first_state


class Beginning(NamedTuple):
    """The model's structure, its first state, what images must go through for it, and where its encoder is from.

    `history` is to be told with the captioner: the kind of its `teacher`, or that of what it starts from; and `run` and
    `step` of that `start`, with the same of what that started from.
    """

    graphdef: nnx.GraphDef[Captioner]
    state: TrainState
    preprocessing: Preprocessing
    encoder: str
    history: dict[str, Any]


def begin(config: Config, vocabulary: int, start: Bundle | None = None) -> Beginning:
    """`start` is what `train.start` names.

    Raises UserError where the configuration contradicts itself, and where published weights or `start` do not fit it.
    """
    _check(config)
    size = config.data.image_size
    try:
        graphdef, shapes = abstract(config.model, vocabulary)
        _check_sizes(graphdef, shapes, size)
    except (ValueError, TypeError) as error:
        raise UserError(f"model: {error} (data.image_size: {size})") from error
    if start is not None:
        return _begin_again(config, graphdef, start)
    encoder, normalisation = config.model.encoder, config.model.encoder.normalisation or "imagenet"
    about = f"{encoder.kind} from scratch"
    if encoder.weights is None:
        parameters = _random(config, vocabulary)
    else:
        published, loaded = with_published(encoder, shapes["encoder"])
        normalisation, about = loaded.normalisation, _about(config, loaded)
        parameters = _with_random(shapes | {"encoder": published}, config, vocabulary)
    mean, deviation = NORMALISATIONS[normalisation]
    preprocessing = Preprocessing(size, mean, deviation)
    return Beginning(graphdef, _first_state(config, parameters), preprocessing, about, _history(config, start))


def _check_sizes(graphdef: nnx.GraphDef[Captioner], shapes: dict[str, Any], size: int) -> None:
    """Raises ValueError or TypeError where the model makes nothing of images of this size."""

    def cells_and_memory(parameters: dict[str, Any], image: Float[Array, "1 Y X 3"]) -> tuple[Array, Any]:
        captioner = nnx.merge(graphdef, parameters)
        cells = captioner.see(image)
        if not cells.size:
            raise ValueError(f"images of {size} pixels are too small for this encoder, which leaves no cell of them")
        return cells, captioner.memory(cells)

    jax.eval_shape(cells_and_memory, shapes, jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32))


def _random(config: Config, vocabulary: int) -> dict[Any, Any]:
    captioner = Captioner(config.model, vocabulary, rngs=nnx.Rngs(config.train.seed))
    return nnx.to_pure_dict(nnx.state(captioner))


def _with_random(parameters: dict[Any, Any], config: Config, vocabulary: int) -> dict[Any, Any]:
    """With what a captioner from scratch has there wherever they are only shapes.

    Inside one program, where what nobody asks for is not drawn: hundreds of layers take half a minute.
    """
    is_shape = lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct)  # noqa: E731
    leaves, structure = jax.tree.flatten(parameters)

    @jax.jit
    def drawn() -> list[Array]:
        random = jax.tree.leaves(_random(config, vocabulary))
        return [new for new, leaf in zip(random, leaves, strict=True) if is_shape(leaf)]

    absent = iter(drawn())
    return jax.tree.unflatten(structure, [next(absent) if is_shape(leaf) else leaf for leaf in leaves])


def _begin_again(config: Config, graphdef: nnx.GraphDef[Captioner], start: Bundle) -> Beginning:
    """With the weights of a captioner. Raises UserError where it is not of the configured kind."""
    differ = differences(start.model.architecture, config.model.architecture, "model.")
    if start.preprocessing.image_size != config.data.image_size:
        differ.append(f"  data.image_size: {start.preprocessing.image_size} then, {config.data.image_size} now")
    asked, had = config.model.encoder.normalisation, start.preprocessing
    if asked is not None and NORMALISATIONS[asked] != (had.mean, had.deviation):
        differ.append(f"  model.encoder.normalisation: mean {had.mean}, deviation {had.deviation} then, {asked} now")
    if differ:
        raise UserError("\n".join([f"train.start: {config.train.start} is of another kind:", *differ]))
    parameters = jax.tree.map(jnp.asarray, start.parameters)
    how = _learning(config)
    about = f"{config.model.encoder.kind} as {config.train.start} has it, {how}"
    return Beginning(graphdef, _first_state(config, parameters), start.preprocessing, about, _history(config, start))


def _history(config: Config, start: Bundle | None) -> dict[str, Any]:
    history: dict[str, Any] = {}
    if start is not None:
        before = start.training
        history["start"] = {name: before[name] for name in ("run", "step", "start") if name in before}
        history |= {name: before[name] for name in ("teacher",) if name in before}
    if config.teacher.is_there:
        history["teacher"] = config.teacher.encoder.kind
    return history


def _first_state(config: Config, parameters: dict[Any, Any]) -> TrainState:
    return first_state(parameters, make_optimizer(config.train), config.train, config.model.encoder.frozen_stages)


def _check(config: Config) -> None:
    """Raises UserError for settings that cannot be meant together."""
    encoder, frozen = config.model.encoder, config.train.encoder_frozen
    random = encoder.weights is None and config.train.start is None
    if config.train.objective == "self_critical" and config.train.start is None:
        raise UserError("train.objective: what a random captioner writes has no reward; name a --train.start")
    if config.train.objective == "self_critical":
        _check_rewards(config)
    elif config.self_critical != SelfCriticalConfig():
        raise UserError("self_critical: these settings are for --train.objective self_critical")
    if config.train.start is not None and encoder.weights is not None:
        raise UserError("model.encoder.weights: those of train.start would be taken; name one of the two")
    if encoder.kind == "convnet" and encoder.weights is not None:
        raise UserError("model.encoder.weights: no weights are published for convnet; name a --model.encoder.kind")
    _check_kind(encoder)
    if encoder.kind == "convnet" and config.train.encoder_layer_decay < 1:
        raise UserError("train.encoder_layer_decay: it is for the stages of a classic encoder, not for convnet")
    if random and frozen:
        raise UserError(
            "train.encoder_frozen: a random encoder would stay so; name --model.encoder.weights or a --train.start"
        )
    if random and _keeps_statistics(encoder):
        raise UserError("a random encoder has no statistics to keep: --model.encoder.batch-norm trained")
    if frozen:
        _check_frozen(config.train)
    if frozen and encoder.batch_norm == "trained":
        raise UserError("model.encoder.batch_norm: one that is frozen (train.encoder_frozen) learns no statistics")
    if encoder.frozen_stages:
        _check_stages(encoder, frozen, random)
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


def _check_frozen(train: TrainConfig) -> None:
    """Raises UserError for settings of how an encoder learns, where it does not."""
    for name in ("encoder_from", "encoder_learning_rate", "encoder_layer_decay"):
        if getattr(train, name) != getattr(TrainConfig(), name):
            raise UserError(f"train.{name}: it is for an encoder that learns, and yours does not: train.encoder_frozen")


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


def _keeps_statistics(encoder: EncoderConfig) -> bool:
    return _has_batch_norm(encoder) and encoder.batch_norm == "frozen"


def _learning(config: Config) -> str:
    """How the encoder does, in words."""
    frozen, first = config.model.encoder.frozen_stages, config.train.encoder_from
    if config.train.encoder_frozen:
        return "frozen"
    stages = f" above its first {frozen} stages" if frozen else ""
    return f"learning{stages}" + (f" from step {first} on" if first else "")


def _about(config: Config, loaded: Loaded) -> str:
    """In words. Raises UserError where a part would stay random that should not."""
    encoder, frozen = config.model.encoder, config.train.encoder_frozen
    about = f"{encoder.kind} with the weights of {loaded.origin} ({loaded.normalisation} pixels), {_learning(config)}"
    if not loaded.from_scratch:
        return about
    absent = ", ".join(dict.fromkeys(".".join(name.split(".")[:2]) for name in loaded.from_scratch))
    stays = frozen or any(stage_of(name.split(".")) < encoder.frozen_stages for name in loaded.from_scratch)
    if stays or _keeps_statistics(encoder):
        learning = "let it learn" if stays else "set --model.encoder.batch-norm trained"
        raise UserError(
            f"{loaded.origin} has no {absent}: end before it with --model.encoder.ends-after, or {learning}"
        )
    return f"{about}; {absent}, which it does not have, from scratch"
