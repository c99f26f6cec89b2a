"""Which of a captioner's variables an optimizer moves, and which stay or are counted."""

from collections.abc import Callable
from typing import Any

import jax

from captioner_jax.model.names import stage_of

# Where a variable lies in a tree of them: JAX's keys.
KeyPath = tuple[Any, ...]
# Of batch normalisation: counted while training, not learned.
STATISTICS = ("mean", "variance")


def divided(variables: Any, moves: Callable[[KeyPath], bool]) -> tuple[Any, Any]:
    """Two trees like `variables`: those that move, and the others; each holds None in the place of the other's."""
    moving = jax.tree_util.tree_map_with_path(lambda path, x: x if moves(path) else None, variables)
    others = jax.tree_util.tree_map_with_path(lambda path, x: None if moves(path) else x, variables)
    return moving, others


def joined(moving: Any, others: Any) -> Any:
    """What `divided` took apart."""
    return jax.tree.map(lambda a, b: b if a is None else a, moving, others, is_leaf=lambda x: x is None)


def is_statistic(path: KeyPath) -> bool:
    return path[-1].key in STATISTICS


def in_stages(path: KeyPath, count: int) -> bool:
    """Does this belong to the first `count` stages of the encoder, or to what lies below them or leads out of them?"""
    return count > 0 and in_encoder(path) and stage_of([entry.key for entry in path[1:]]) < count


def in_encoder(path: KeyPath) -> bool:
    return path[0].key == "encoder"
