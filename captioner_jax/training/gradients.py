"""How long gradients are, in the whole and in each part of a captioner."""

from typing import Any

import jax
import optax
from jaxtyping import Array, Float

from captioner_jax.training.learning import KeyPath


def norms_by_group(gradients: dict[Any, Any]) -> dict[str, Float[Array, ""]]:
    """The Euclidean norm of each group's gradient; their squares sum to that of the whole. Without what is frozen."""
    groups: dict[str, list[Array]] = {}
    for path, gradient in jax.tree.leaves_with_path(gradients):
        groups.setdefault(group_of(path), []).append(gradient)
    return {name: optax.tree.norm(of) for name, of in groups.items()}


def group_of(path: KeyPath) -> str:
    """Of a parameter: `encoder`; the decoder's `blocks`; or `embedding` of words, which is the head, and of cells."""
    match [entry.key for entry in path]:
        case ["encoder", *_]:
            return "encoder"
        case ["decoder", "blocks", *_]:
            return "blocks"
        case _:
            return "embedding"
