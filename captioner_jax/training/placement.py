"""Where a training step is computed: on one device, on a mesh of them by `jit`, or on each by `pmap`.

The step is one function of state and batch. A placement puts these on devices, compiles the function for them, and
gives back what checkpoints and evaluations take.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import jax
import numpy as np
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PRNGKeyArray

from captioner_jax.config import Config
from captioner_jax.data.pipeline import Batch
from captioner_jax.errors import UserError
from captioner_jax.model.captioner import Captioner
from captioner_jax.model.convolutions import BatchNorm
from captioner_jax.training.sharding import DATA, MODEL, Cut, partitions

Tree = TypeVar("Tree")
# A function of state, batch and objective.
Step = Callable[[Any, Any, Any], Any]


class Devices:
    """What a step's program sees of the devices: itself alone, however many the compiler divides it among."""

    def total(self, shares: Tree) -> Tree:
        """The sums over all programs."""
        return shares

    def own_key(self, key: PRNGKeyArray) -> PRNGKeyArray:
        """Randomness of this program's own."""
        return key

    def share_statistics(self, captioner: Captioner) -> None:
        """Batch normalisation is by the whole batch."""


class Axis(Devices):
    """One program a device, and its sums with the others written out; they go by the axis `data`."""

    def total(self, shares: Tree) -> Tree:
        return jax.lax.psum(shares, DATA)

    def own_key(self, key: PRNGKeyArray) -> PRNGKeyArray:
        return jax.random.fold_in(key, jax.lax.axis_index(DATA))

    def share_statistics(self, captioner: Captioner) -> None:
        for _, module in nnx.iter_modules(captioner):
            if isinstance(module, BatchNorm):
                module.across = DATA


@runtime_checkable
class Placement(Protocol):
    """Where state and batches lie, and the step compiled for it."""

    @property
    def devices(self) -> Devices:
        """As the step's program is to see them."""
        ...

    @property
    def about(self) -> str:
        """In words."""
        ...

    def compile(self, step: Step) -> Step:
        """The step as a compiled function of what is placed, whose state it may reuse."""
        ...

    def everywhere(self, tree: Tree) -> Tree:
        """What each device needs whole, such as an objective."""
        ...

    def place(self, state: Tree) -> Tree:
        """A state as the step takes it, from one as it began or was `saved`."""
        ...

    def spread(self, batch: Batch) -> Batch:
        """A batch as the step takes it, from this host's share of it."""
        ...

    def saved(self, state: Tree) -> Tree:
        """A placed state as checkpoints hold it: alike whatever the placement."""
        ...

    def local(self, tree: Tree) -> Tree:
        """A part of a placed state, whole, on one device of this host."""
        ...


class OneDevice:
    """The default device."""

    devices = Devices()
    about = "one device"

    def compile(self, step: Step) -> Step:
        return jax.jit(step, donate_argnums=0)

    def everywhere(self, tree: Tree) -> Tree:
        return tree

    def place(self, state: Tree) -> Tree:
        return state

    def spread(self, batch: Batch) -> Batch:
        return batch

    def saved(self, state: Tree) -> Tree:
        return state

    def local(self, tree: Tree) -> Tree:
        return tree


ONE_DEVICE = OneDevice()


@dataclasses.dataclass(frozen=True)
class OnMesh:
    """`jit` of the whole step over a mesh with the axes `data` and `model`: the compiler divides it.

    Batches are cut along `data`; the state as `partition` says.
    """

    mesh: Mesh
    fsdp: bool
    devices: Devices = dataclasses.field(default_factory=Devices)

    @property
    def about(self) -> str:
        shares = " x ".join(f"{count} {axis}" for axis, count in self.mesh.shape.items())
        return f"a mesh of {shares}" + (", with fsdp" if self.fsdp else "")

    def compile(self, step: Step) -> Step:
        return self._jitted(step)

    def _jitted(self, step: Step) -> jax.stages.Wrapped:
        def kept_in_place(state: Any, batch: Any, objective: Any) -> Any:
            after, metrics = step(state, batch, objective)
            return jax.lax.with_sharding_constraint((after, metrics), (self._shardings(after), self._whole))

        return jax.jit(kept_in_place, donate_argnums=0)

    def everywhere(self, tree: Tree) -> Tree:
        return jax.device_put(tree, self._whole)

    def place(self, state: Tree) -> Tree:
        return jax.device_put(state, self._shardings(state))

    def spread(self, batch: Batch) -> Batch:
        along_data = NamedSharding(self.mesh, PartitionSpec(DATA))
        return jax.tree.map(functools.partial(jax.make_array_from_process_local_data, along_data), batch)

    def saved(self, state: Tree) -> Tree:
        return state

    def local(self, tree: Tree) -> Tree:
        return jax.tree.map(lambda x: x.addressable_data(0), self.everywhere(tree))

    def _shardings(self, state: Any) -> Any:
        cut = Cut(self.mesh.shape[DATA] if self.fsdp else 1, self.mesh.shape[MODEL])
        return jax.tree.map(functools.partial(NamedSharding, self.mesh), partitions(state, cut))

    @property
    def _whole(self) -> NamedSharding:
        return NamedSharding(self.mesh, PartitionSpec())


@dataclasses.dataclass(frozen=True)
class ByPmap:
    """A whole state on each of `count` devices, a share of the batch for each, and what they find added up by `psum`.

    The first axis of all arrays is that of devices.
    """

    count: int
    devices: Devices = dataclasses.field(default_factory=Axis)

    @property
    def about(self) -> str:
        return f"{self.count} devices by pmap"

    def compile(self, step: Step) -> Step:
        return jax.pmap(step, DATA, in_axes=0, out_axes=(0, None), devices=self._some, donate_argnums=0)  # pyright: ignore[reportArgumentType]

    def everywhere(self, tree: Tree) -> Tree:
        return jax.pmap(lambda _, x: x, in_axes=(0, None), devices=self._some)(np.arange(self.count), tree)

    def place(self, state: Tree) -> Tree:
        return self.everywhere(state)

    def spread(self, batch: Batch) -> Batch:
        return jax.tree.map(lambda x: x.reshape(self.count, -1, *x.shape[1:]), batch)

    def saved(self, state: Tree) -> Tree:
        return self.local(state)

    def local(self, tree: Tree) -> Tree:
        return jax.tree.map(lambda x: x.addressable_data(0)[0], tree)

    @property
    def _some(self) -> list[Any]:
        return jax.devices()[: self.count]


def make_placement(config: Config) -> Placement:
    """As configured. Raises UserError where devices, batch or model do not divide so."""
    devices = chosen(config, jax.devices())
    if config.devices.parallel == "pmap":
        return _by_pmap(config, len(devices))
    return ONE_DEVICE if len(devices) == 1 else OnMesh(make_mesh(config, devices), config.devices.fsdp)


def chosen(config: Config, there: Sequence[Any]) -> Sequence[Any]:
    """Of the devices there are, those to train on. Raises UserError where they, batch or model do not divide so."""
    wanted, train = config.devices, config.train
    hosts = len({device.process_index for device in there})
    data = max(1, len(there) // wanted.model) if wanted.data is None else wanted.data
    if data * wanted.model > len(there):
        raise UserError(f"devices: data {data} x model {wanted.model} are more than the {len(there)} devices there are")
    if data * wanted.model < len(there) and hosts > 1:
        raise UserError(
            f"devices: data {data} x model {wanted.model} leave some of the hosts' {len(there)} devices out"
        )
    if hosts > 1 and len(there) // hosts % wanted.model:
        raise UserError(f"devices.model: {wanted.model} shares do not fit the {len(there) // hosts} of a host")
    if train.batch_size % (data * train.accumulate):
        raise UserError(
            f"train.batch_size: {train.batch_size} images do not divide among {data} devices (devices.data) "
            f"in {train.accumulate} parts (train.accumulate)"
        )
    if config.model.heads % wanted.model or config.model.feed_forward % wanted.model:
        raise UserError(
            f"devices.model: {config.model.heads} heads (model.heads) and {config.model.feed_forward} units "
            f"(model.feed_forward) do not divide into {wanted.model} shares"
        )
    return there[: data * wanted.model]


def make_mesh(config: Config, devices: Sequence[Any]) -> Mesh:
    """Those that are `chosen`, along the axes `data` and `model`."""
    shape = len(devices) // config.devices.model, config.devices.model
    return jax.make_mesh(shape, (DATA, MODEL), (AxisType.Auto, AxisType.Auto), devices=devices)


def _by_pmap(config: Config, data: int) -> ByPmap:
    """Raises UserError where more is asked than whole states on the devices of one host."""
    if config.devices.model > 1 or config.devices.fsdp:
        raise UserError("devices.parallel: pmap keeps a whole state on each device; model and fsdp are for jit")
    if jax.process_count() > 1:
        raise UserError("devices.parallel: pmap is for one host here; jit goes over several")
    return ByPmap(data)
