"""The devices of this host, among which images are shared out wherever nothing is learned from them.

Each has all that a captioner is, and takes an equal share of a batch's images. They tell each other nothing: no image's
caption depends on another's, and each device ends its search when its own captions are done.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

Tree = TypeVar("Tree")
IMAGES = "images"


def device_count() -> int:
    """How many there are; one where JAX is told which (`jax.default_device`)."""
    chosen = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    return 1 if chosen is not None else jax.local_device_count()


def even_rows(images: int) -> int:
    """At least so many rows of a batch, and as many for each device."""
    return -(-images // device_count()) * device_count()


def everywhere(tree: Tree) -> Tree:
    """A tree of arrays, whole on each device."""
    return jax.device_put(tree, NamedSharding(_mesh(), PartitionSpec()) if device_count() > 1 else None)


def on_first(tree: Tree) -> Tree:
    """What is `everywhere`, on the first device alone; nothing is copied."""
    return jax.tree.map(lambda x: x.addressable_data(0) if isinstance(x, jax.Array) else x, tree)


def over_images(function: Callable[..., Any], whole: Sequence[int]) -> Callable[..., Any]:
    """A function of batches, compiled; each device computes it for its share of the rows.

    The arguments numbered in `whole` are not cut, and are best put `everywhere` once. All arrays in the others, and in
    what is found, have images as their first axis. Rows that devices cannot share evenly are for the first device.
    """
    alone = jax.jit(function)
    if device_count() == 1:
        return alone

    def shared_out(*arguments: Any) -> Any:
        cut = [PartitionSpec() if number in whole else PartitionSpec(IMAGES) for number in range(len(arguments))]
        return jax.shard_map(
            function, mesh=_mesh(), in_specs=tuple(cut), out_specs=PartitionSpec(IMAGES), check_vma=False
        )(*arguments)

    shared = jax.jit(shared_out)

    def computed(*arguments: Any) -> Any:
        images = next(x for number, x in enumerate(arguments) if number not in whole)
        if len(jax.tree.leaves(images)[0]) % device_count() == 0:
            return shared(*arguments)
        return alone(*(on_first(x) if number in whole else x for number, x in enumerate(arguments)))

    return computed


def sums_over_images(function: Callable[..., Any], whole: Sequence[int]) -> Callable[..., Any]:
    """As `over_images`, a function whose results are sums over images: those of all devices, added up on the host."""
    shares = over_images(lambda *arguments: jax.tree.map(lambda x: x[None], function(*arguments)), whole)
    return lambda *arguments: jax.tree.map(lambda x: np.asarray(x).sum(), shares(*arguments))


@functools.cache
def _mesh() -> Mesh:
    return Mesh(jax.local_devices(), (IMAGES,))
