"""A captioner before its first step: random, but for an encoder with published weights; or one that was kept."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from captioner_jax.bundle import Bundle, abstract
from captioner_jax.config import Config
from captioner_jax.data.images import Preprocessing
from captioner_jax.errors import UserError
from captioner_jax.model.captioner import Captioner
from captioner_jax.model.names import stage_of
from captioner_jax.pretrained.encoder import with_published
from captioner_jax.pretrained.load import NORMALISATIONS, Loaded
from captioner_jax.training.checkpoints import differences
from captioner_jax.training.contradictions import keeps_statistics
from captioner_jax.training.optimizer import make_optimizer
from captioner_jax.training.step import TrainState, first_state


@dataclasses.dataclass
class Beginning:
    """The model's structure, its first state, what images must go through for it, and where its encoder is from.

    `history` is to be told with the captioner: the kind of its `teacher`, or that of what it starts from; and `run` and
    `step` of that `start`, or as what it was published, with the same of what that started from.
    """

    graphdef: nnx.GraphDef[Captioner]
    state: TrainState
    preprocessing: Preprocessing
    encoder: str
    history: dict[str, Any]

    def hand_over(self) -> TrainState:
        """The first state, which is not held here any longer: where a run shares it out, or takes a checkpoint's in its
        place, it would keep as much memory as a device may not have twice."""
        state = self.state
        del self.state
        return state


def begin(config: Config, vocabulary: int, start: Bundle | None = None) -> Beginning:
    """Of settings that `check_settings` has found nothing against; `start` is what `train.start` names.

    Raises UserError where published weights or `start` do not fit them.
    """
    graphdef, shapes = abstract(config.model, vocabulary)
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
    preprocessing = Preprocessing(config.data.image_size, mean, deviation, config.data.framing)
    return Beginning(graphdef, _first_state(config, parameters), preprocessing, about, _history(config, start))


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
    asked, had = config.model.encoder.normalisation, start.preprocessing
    for name in ("image_size", "framing"):
        then, now = getattr(had, name), getattr(config.data, name)
        if then != now:
            differ.append(f"  data.{name}: {then} then, {now} now")
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
        history["start"] = {name: before[name] for name in ("run", "step", "start", "published") if name in before}
        history |= {name: before[name] for name in ("teacher",) if name in before}
    if config.teacher.is_there:
        history["teacher"] = config.teacher.encoder.kind
    return history


def _first_state(config: Config, parameters: dict[Any, Any]) -> TrainState:
    return first_state(parameters, make_optimizer(config.train), config.train, config.model.encoder.frozen_stages)


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
    if stays or keeps_statistics(encoder):
        learning = "let it learn" if stays else "set --model.encoder.batch-norm trained"
        raise UserError(
            f"{loaded.origin} has no {absent}: end before it with --model.encoder.ends-after, or {learning}"
        )
    return f"{about}; {absent}, which it does not have, from scratch"
