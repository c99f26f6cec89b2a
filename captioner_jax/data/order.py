"""The order in which training takes the images of a split: each once an epoch, every epoch anew."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import grain
import numpy as np
from jaxtyping import Int

from captioner_jax.data.once import computed_once


@runtime_checkable
class Order(Protocol):
    """A function of the seed alone."""

    def __getitem__(self, place: int, /) -> int | np.integer | None:
        """The image at place 0, 1, ... without end."""
        ...


def mixed(images: int, seed: int) -> Order:
    """All images shuffled among each other."""
    return grain.MapDataset.range(images).seed(seed).shuffle().repeat()


class ShardByShard:
    """The images of a few shards at a time, shuffled among each other, so that a slow disk is read in long stretches.

    Which shards meet is drawn anew each epoch.
    """

    def __init__(self, shards: Sequence[str], at_once: int, seed: int):
        """`shards` are the files that the images lie in, one for each image."""
        _, number, sizes = np.unique(np.asarray(shards), return_inverse=True, return_counts=True)
        self.shards = np.split(np.argsort(number, kind="stable"), np.cumsum(sizes)[:-1])
        self.images = len(shards)
        self.at_once = at_once
        self.seed = seed

    def __getitem__(self, place: int) -> np.integer:
        epoch, place = divmod(place, self.images)
        return _epoch(self, epoch)[place]


@computed_once(2)
def _epoch(order: ShardByShard, number: int) -> Int[np.ndarray, " images"]:
    rng = np.random.default_rng([order.seed, number, 0, 1])  # others than of a plan's window of this number
    drawn = rng.permutation(len(order.shards))
    together = [drawn[first : first + order.at_once] for first in range(0, len(drawn), order.at_once)]
    return np.concatenate([rng.permutation(np.concatenate([order.shards[i] for i in few])) for few in together])
