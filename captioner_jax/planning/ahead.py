"""The training step of a configuration, compiled for devices that need not be there; no array is made."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from captioner_jax.bundle import abstract
from captioner_jax.config import Config
from captioner_jax.data.images import Preprocessing
from captioner_jax.data.pipeline import Batch
from captioner_jax.data.views import Lesson
from captioner_jax.errors import UserError
from captioner_jax.model.captioner import Captioner
from captioner_jax.planning.program import Program, TooLarge, read, too_large
from captioner_jax.training.imitation import Components, Imitation
from captioner_jax.training.optimizer import make_optimizer
from captioner_jax.training.placement import OnMesh, Step, Tree, chosen, make_mesh
from captioner_jax.training.sharding import DATA
from captioner_jax.training.step import CrossEntropy, Objective, first_state, make_train_step
from captioner_jax.training.teacher import check_teacher, shape_taught


class Phase(NamedTuple):
    """Steps of a run that are one program."""

    steps: int
    encoder_learns: bool


@dataclasses.dataclass(frozen=True)
class Ahead(OnMesh):
    """A mesh of devices that need not be there: a step that is called is compiled, and not run.

    Of what it is called with only shapes, types and shares count.
    """

    def compile(self, step: Step) -> Step:
        program = self._jitted(step)
        return lambda *arguments: program.lower(*arguments).compile()

    def everywhere(self, tree: Tree) -> Tree:
        return _laid_out(tree, jax.tree.map(lambda _: self._whole, tree))

    def place(self, state: Tree) -> Tree:
        return _laid_out(state, self._shardings(state))

    def spread(self, batch: Batch) -> Batch:
        return _laid_out(batch, jax.tree.map(lambda _: NamedSharding(self.mesh, PartitionSpec(DATA)), batch))


def phases(config: Config) -> list[Phase]:
    """Those of a run, in order; the last one is the heaviest, or the only one."""
    train = config.train
    before = train.steps if train.encoder_frozen else min(train.encoder_from, train.steps)
    return [phase for phase in (Phase(before, False), Phase(train.steps - before, True)) if phase.steps]


def compile_step(
    config: Config,
    vocabulary: int,
    devices: Sequence[Any],
    *,
    encoder_learns: bool,
    objective: Objective | None = None,
) -> Program | TooLarge:
    """With the longest captions there may be; without an objective, the cross-entropy of captions, a teacher beside it.

    Raises UserError where the configuration cannot be placed on these devices, or contradicts itself.
    """
    train, encoder = config.train, config.model.encoder
    check_teacher(config)
    placement = Ahead(make_mesh(config, chosen(config, devices)), config.devices.fsdp)
    optimizer = make_optimizer(train)
    try:
        graphdef, parameters = abstract(config.model, vocabulary)
        batch = _batch(config, graphdef, parameters)
    except ValueError as error:
        raise UserError(f"model: {error}") from error
    begin = lambda p: first_state(p, optimizer, train, encoder.frozen_stages)  # noqa: E731
    state, batch = placement.place(jax.eval_shape(begin, parameters)), placement.spread(batch)
    step = make_train_step(
        graphdef,
        optimizer,
        Preprocessing(config.data.image_size),
        train,
        placement.everywhere(objective or _objective(config)),
        frozen_stages=encoder.frozen_stages,
        encoder_learns=encoder_learns,
        placement=placement,
    )
    try:
        compiled: Any = step(state, batch)
    except jax.errors.JaxRuntimeError as error:
        return too_large(error)
    return read(compiled, state, batch, len(placement.mesh.devices.flat), train.accumulate)


def _batch(config: Config, graphdef: nnx.GraphDef[Captioner], parameters: dict[Any, Any]) -> Batch:
    """The shapes and types of one."""
    data, images = config.data, config.train.batch_size
    pixels = images, data.image_size, data.image_size, 3
    shown = jax.ShapeDtypeStruct(pixels, np.uint8)
    if data.features is not None:
        eye = lambda p, x: nnx.merge(graphdef, p).glance(x)  # noqa: E731
        glance = jax.eval_shape(eye, parameters, jax.ShapeDtypeStruct(pixels, np.float32))
        shown = jax.ShapeDtypeStruct(glance.shape, np.float16)
    if config.teacher.is_there:
        shown = Lesson(shown, jax.ShapeDtypeStruct((images, *shape_taught(config.teacher)), np.float16))
    tokens = jax.ShapeDtypeStruct((images, data.captions_per_image, data.max_length + 1), np.int32)
    usable, numbers = (jax.ShapeDtypeStruct((images,), kind) for kind in (np.bool_, np.int32))
    return Batch._make((shown, tokens, usable, numbers))


def _objective(config: Config) -> Objective:
    """Shapes and types of one with a teacher, or all of one without."""
    people = CrossEntropy(config.train.label_smoothing)
    if not config.teacher.is_there:
        return people
    channels = shape_taught(config.teacher)[-1]
    numbers: list[Any] = [
        jax.ShapeDtypeStruct(shape, np.float32) for shape in ((channels,), (channels, config.model.width))
    ]
    return Imitation(people, Components(*numbers), config.teacher.weight)


def _laid_out(tree: Tree, shardings: Any) -> Tree:
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, shardings)
