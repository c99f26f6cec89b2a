"""The training step of a configuration, compiled for devices that need not be there; no array is made."""

import dataclasses
import math
import re
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
from captioner_jax.errors import UserError
from captioner_jax.model.captioner import Captioner
from captioner_jax.planning.collectives import collectives
from captioner_jax.planning.estimate import Work
from captioner_jax.planning.hlo import loops
from captioner_jax.planning.traffic import moved
from captioner_jax.training.optimizer import make_optimizer
from captioner_jax.training.placement import OnMesh, Step, Tree, chosen, make_mesh
from captioner_jax.training.sharding import DATA
from captioner_jax.training.step import CrossEntropy, TrainState, first_state, make_train_step

# In what words the compiler says so: of all that a program holds, or of its temporaries alone.
_TOO_LARGE = (
    re.compile(r"Used ([\d.]+)([KMGT]?) of ([\d.]+)([KMGT]?) hbm"),
    re.compile(r"temporaries \(([\d.]+)([KMGT]?)\) exceeds available HBM \(([\d.]+)([KMGT]?)\)"),
)


class Phase(NamedTuple):
    """Steps of a run that are one program."""

    steps: int
    encoder_learns: bool


class Memory(NamedTuple):
    """Bytes on each chip."""

    parameters: float
    optimizer: float
    """What it remembers, and the average of weights."""
    batch: float
    padding: float
    """What all those take more, since the last axes of arrays are filled up to whole tiles."""
    temporaries: float
    """Activations and gradients that lie in the chip's large memory."""
    program: float

    @property
    def whole(self) -> float:
        return sum(self)


class TooLarge(NamedTuple):
    """Bytes on each chip that a program wants at least, and that the compiler has for it."""

    wanted: float
    there: float


class Program(NamedTuple):
    """A compiled step."""

    memory: Memory
    work: Work
    optimal_seconds: float | None
    """How long the compiler thinks it takes; None where what it says cannot be."""


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
    """Those of a run, in order; the last one is the longest and the heaviest, or the only one."""
    train = config.train
    before = train.steps if train.encoder_frozen else min(train.encoder_from, train.steps)
    return [phase for phase in (Phase(before, False), Phase(train.steps - before, True)) if phase.steps]


def compile_step(
    config: Config, vocabulary: int, devices: Sequence[Any], *, encoder_learns: bool
) -> Program | TooLarge:
    """With the longest captions there may be.

    Raises UserError where the configuration cannot be placed on these devices, or contradicts itself.
    """
    train, encoder = config.train, config.model.encoder
    placement = Ahead(make_mesh(config, chosen(config, devices)), config.devices.fsdp)
    optimizer = make_optimizer(train)
    try:
        graphdef, parameters = abstract(config.model, vocabulary)
        batch = _batch(config, graphdef, parameters)
    except ValueError as error:
        raise UserError(f"model: {error}") from error
    state = placement.place(
        jax.eval_shape(lambda p: first_state(p, optimizer, train, encoder.frozen_stages), parameters)
    )
    batch = placement.spread(batch)
    step = make_train_step(
        graphdef,
        optimizer,
        Preprocessing(config.data.image_size),
        train,
        CrossEntropy(train.label_smoothing),
        frozen_stages=encoder.frozen_stages,
        encoder_learns=encoder_learns,
        placement=placement,
    )
    try:
        compiled: Any = step(state, batch)
    except jax.errors.JaxRuntimeError as error:
        return _too_large(error)
    return _read(compiled, state, batch, len(placement.mesh.devices.flat), train.accumulate)


def _batch(config: Config, graphdef: nnx.GraphDef[Captioner], parameters: dict[Any, Any]) -> Batch:
    """The shapes and types of one."""
    data, images = config.data, config.train.batch_size
    pixels = images, data.image_size, data.image_size, 3
    shown = jax.ShapeDtypeStruct(pixels, np.uint8)
    if data.features is not None:
        eye = lambda p, x: nnx.merge(graphdef, p).glance(x)  # noqa: E731
        glance = jax.eval_shape(eye, parameters, jax.ShapeDtypeStruct(pixels, np.float32))
        shown = jax.ShapeDtypeStruct(glance.shape, np.float16)
    tokens = jax.ShapeDtypeStruct((images, data.captions_per_image, data.max_length + 1), np.int32)
    usable, numbers = (jax.ShapeDtypeStruct((images,), kind) for kind in (np.bool_, np.int32))
    return Batch._make((shown, tokens, usable, numbers))


def _laid_out(tree: Tree, shardings: Any) -> Tree:
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, shardings)


def _read(compiled: jax.stages.Compiled, state: TrainState, batch: Batch, devices: int, rounds: int) -> Program:
    """What the compiler tells. It counts what loops repeat once; the only loops here are over parts of the batch."""
    text, cost = compiled.as_text() or "", compiled.cost_analysis() or {}
    repeated = rounds if loops(text) else 1
    work = Work(repeated * cost["flops"], moved(text, rounds), collectives(text, devices, rounds))
    optimal = repeated * cost.get("optimal_seconds", 0.0)
    return Program(_memory(compiled, state, batch), work, optimal if optimal > 0 else None)


def _memory(compiled: jax.stages.Compiled, state: TrainState, batch: Batch) -> Memory:
    counted: Any = compiled.memory_analysis()
    parameters, batch_size = _held(state.parameters), _held(batch)
    optimizer = _held((state.optimizer, state.average, state.step))
    padding = counted.argument_size_in_bytes - parameters - optimizer - batch_size
    results = counted.output_size_in_bytes - counted.alias_size_in_bytes  # the new state takes the place of the old
    temporaries = counted.temp_size_in_bytes + results
    return Memory(parameters, optimizer, batch_size, padding, temporaries, counted.generated_code_size_in_bytes)


def _held(tree: Any) -> int:
    """Bytes of each device's share."""
    shares = ((leaf.sharding.shard_shape(leaf.shape), leaf.dtype.itemsize) for leaf in jax.tree.leaves(tree))
    return sum(math.prod(shape) * itemsize for shape, itemsize in shares)


def _too_large(error: Exception) -> TooLarge:
    """Raises the error again where it is another."""
    for told in _TOO_LARGE:
        if found := told.search(str(error)):
            wanted, unit, there, unit_there = found.groups()
            return TooLarge(_in_bytes(wanted, unit), _in_bytes(there, unit_there))
    raise error


def _in_bytes(number: str, unit: str) -> float:
    return float(number) * 1024.0 ** " KMGT".index(unit or " ")
