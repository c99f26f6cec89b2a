"""Variables as they are computed with: float32, as they are kept, or bfloat16.

A captioner computes in the type of its matrices. Whatever that is, softmax, normalisation and loss are float32.
"""

from typing import Any, get_args

import jax
import jax.numpy as jnp

from captioner_jax.config import Precision


def in_precision(variables: dict[Any, Any], precision: Precision) -> dict[Any, Any]:
    """As they are kept, or `in_bfloat16`. Raises ValueError for anything else."""
    if precision not in get_args(Precision):
        raise ValueError(f"precision {precision!r}: there are {' and '.join(get_args(Precision))}")
    return in_bfloat16(variables) if precision == "bfloat16" else variables


def in_bfloat16(variables: dict[Any, Any]) -> dict[Any, Any]:
    """Rounded to bfloat16, but for what normalisations hold: that is small, and used in float32.

    bfloat16 has the exponents of float32, so that nothing overflows and no loss need be scaled, but 8 bits of precision
    in the place of 24 (Kalamkar et al. 2019, "A Study of BFLOAT16 for Deep Learning Training"). Gradients by variables
    that are rounded here come back in the type they are kept in (Micikevicius et al. 2018, "Mixed Precision Training",
    section 3.1).
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, x: x if _is_of_norm(path) else x.astype(jnp.bfloat16), variables
    )


def _is_of_norm(path: tuple[Any, ...]) -> bool:
    """Modules that normalise are called norm, norm_1, norm_before and the like."""
    return any(str(entry.key).startswith("norm") for entry in path)
