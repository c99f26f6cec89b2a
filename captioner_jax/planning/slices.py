"""TPU slices as the TPU compiler knows them, wherever it runs."""

import dataclasses
import importlib.util
import os
import sys
from collections.abc import Sequence
from typing import Any

import jax
from jax.experimental import topologies

from captioner_jax.errors import UserError
from captioner_jax.planning.chips import CHIPS, Chip

# Chips along each of so many sides; of more the compiler breaks off the program.
LONGEST = {2: 16, 3: 32}
# The compiler comes in the library that drives TPUs, which looks for the machine it is on, and for a lock on its chips,
# if it is not told. A plan touches no chip.
ALONE = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


@dataclasses.dataclass(frozen=True)
class Slice:
    """So many chips, and how they are connected: v5e:4x4."""

    name: str
    chip: Chip
    devices: Sequence[Any]
    """One a chip."""

    @property
    def hosts(self) -> int:
        return len({device.process_index for device in self.devices})


def find_slices(names: str) -> list[Slice]:
    """Those named, a comma between them. Raises UserError where there are none of that name, or no compiler."""
    asked = [name.strip().lower() for name in names.split(",")]
    kinds = [_kind(name) for name in asked]
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(_no_compiler(sys.platform))
    for variable, value in ALONE.items():
        os.environ.setdefault(variable, value)
    jax.config.update("jax_platforms", "cpu")  # for the few arrays that are computed on the way
    return [_find(name, chip) for name, chip in zip(asked, kinds, strict=True)]


def _kind(name: str) -> Chip:
    kind, _, shape = name.partition(":")
    if kind not in CHIPS or not shape:
        raise UserError(f"--plan: {name!r} is no slice of {', '.join(CHIPS)}; say v5e:4x4, say v4:2x2x1")
    chip, sides = CHIPS[kind], shape.split("x")
    if len(sides) != chip.sides or not all(
        side.isdecimal() and 1 <= int(side) <= LONGEST[chip.sides] for side in sides
    ):
        longest = LONGEST[chip.sides]
        raise UserError(f"--plan: {name!r} is no slice: {kind} has {chip.sides} sides, each of 1 to {longest} chips")
    return chip


def _find(name: str, chip: Chip) -> Slice:
    # A host has four chips, unless there is only one.
    single = set(name.partition(":")[2].split("x")) == {"1"}
    bounds = {"chips_per_host_bounds": (1, 1, 1)} if single else {}
    try:
        found = topologies.get_topology_desc(name, platform="tpu", chip_config_name=chip.cores, **bounds)
    except jax.errors.JaxRuntimeError as error:
        raise UserError(f"--plan: the TPU compiler knows no slice {name}: {error}") from error
    return Slice(name, chip, found.devices)


def _no_compiler(platform: str) -> str:
    if platform != "linux":
        return "--plan: the TPU compiler (libtpu) is for Linux on x86-64 alone; plan there, in a container for example"
    return "--plan: the TPU compiler is not installed: pip install -e '.[tpu]' (Linux on x86-64)"
