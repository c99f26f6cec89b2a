"""Variables by one name each."""

import math
from collections.abc import Sequence
from typing import Any

import jax

# Variables of a captioner, all or some of them, as a tree of dictionaries.
Parameters = dict[Any, Any]


def flat(variables: Parameters) -> dict[str, Any]:
    """A tree of variables by dotted name, such as decoder.blocks.0.mlp.linear_1.kernel."""
    return {".".join(str(k.key) for k in path): leaf for path, leaf in jax.tree.leaves_with_path(variables)}


def stage_of(name: Sequence[str | int]) -> float:
    """The stage (of a Vision Transformer: block) that a variable of an encoder belongs to, counted from 0.

    -1 for what comes before the first, infinity after the last; half a stage more for what leads to the next.
    `name` is the path within the encoder, such as ["blocks", 0, 1, "kernel"].
    """
    match name[0]:
        case "blocks" | "convolutions":
            return float(name[1])
        case "transitions":
            return float(name[1]) + 0.5
        case "norm":
            return math.inf
    return -1.0
