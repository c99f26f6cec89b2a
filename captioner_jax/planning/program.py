"""A compiled step: what it holds of a chip's memory, and what it does."""

import math
import re
from typing import Any, NamedTuple

import jax

from captioner_jax.data.pipeline import Batch
from captioner_jax.planning.collectives import collectives
from captioner_jax.planning.estimate import Work
from captioner_jax.planning.hlo import loops
from captioner_jax.planning.traffic import moved
from captioner_jax.training.step import TrainState

# In what words the compiler says so: of all that a program holds, or of its temporaries alone.
_TOO_LARGE = (
    re.compile(r"Used ([\d.]+)([KMGT]?) of ([\d.]+)([KMGT]?) hbm"),
    re.compile(r"temporaries \(([\d.]+)([KMGT]?)\) exceeds available HBM \(([\d.]+)([KMGT]?)\)"),
)


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


def read(compiled: jax.stages.Compiled, state: TrainState, batch: Batch, devices: int, rounds: int) -> Program:
    """What the compiler tells of a step for so many devices, `rounds` parts of a batch one after another.

    It counts what loops repeat once; the only loops here are over those parts. FLOPs outside of them, the optimizer's,
    are taken for as many inside.
    """
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


def too_large(error: Exception) -> TooLarge:
    """What the compiler's error tells. Raises it again where it is another."""
    for told in _TOO_LARGE:
        if found := told.search(str(error)):
            wanted, unit, there, unit_there = found.groups()
            return TooLarge(_in_bytes(wanted, unit), _in_bytes(there, unit_there))
    raise error


def _in_bytes(number: str, unit: str) -> float:
    return float(number) * 1024.0 ** " KMGT".index(unit or " ")
