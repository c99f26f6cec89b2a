"""Along which axes parameters, and what an optimizer remembers of them, are cut into shares on a mesh of devices.

Axes are told by the alphabet of every shape here: N heads, H head size, D model width, F feed-forward width.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from jax.sharding import PartitionSpec

DATA, MODEL = "data", "model"
# The axes of the parameters that are cut along the mesh's axis `model`, by the end of their names.
AXES = {
    **dict.fromkeys(("w_q", "w_k", "w_v"), "DNH"),
    **dict.fromkeys(("bias.q", "bias.k", "bias.v"), "NH"),
    "w_o": "NHD",
    "linear_1.kernel": "DF",
    "linear_1.bias": "F",
    "linear_2.kernel": "FD",
}
# A head, or a unit of the feed-forward layer, is computed on one device: what leaves them all is added up, once a
# sublayer (Shoeybi et al. 2019, "Megatron-LM", section 3).
CUT_ALONG_MODEL = "NF"


class Cut(NamedTuple):
    """How many shares an array may be cut into along the two axes of a mesh."""

    data: int
    """1 where parameters are kept whole along `data`."""
    model: int


def partition(name: str, shape: Sequence[int], cut: Cut) -> PartitionSpec:
    """Of the array `name` of a training state (a parameter's dotted name, or one that ends in it).

    Heads and feed-forward units are cut along `model`. Of what remains whole, the longest axis is cut along `data`, so
    that each device keeps a share of parameters and optimizer state (Rajbhandari et al. 2020, "ZeRO", section 5). An
    axis that does not divide stays whole.
    """
    letters = next((letters for kind, letters in AXES.items() if name.endswith(f".{kind}")), "." * len(shape))
    along: list[str | None] = [
        MODEL if letter in CUT_ALONG_MODEL and cut.model > 1 and size % cut.model == 0 else None
        for letter, size in zip(letters, shape, strict=True)
    ]
    free = [axis for axis, size in enumerate(shape) if along[axis] is None and size % cut.data == 0]
    if cut.data > 1 and free:
        along[max(free, key=lambda axis: shape[axis])] = DATA
    return PartitionSpec(*along)


def partitions(state: Any, cut: Cut) -> Any:
    """A tree like `state`, of what `partition` says of each array in it."""
    return jax.tree_util.tree_map_with_path(
        lambda path, x: partition(jax.tree_util.keystr(path, simple=True, separator="."), x.shape, cut), state
    )
