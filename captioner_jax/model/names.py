"""Variables by one name each."""

from typing import Any

import jax


def flat(variables: dict[Any, Any]) -> dict[str, Any]:
    """A tree of variables by dotted name, such as decoder.blocks.0.mlp.linear_1.kernel."""
    return {".".join(str(k.key) for k in path): leaf for path, leaf in jax.tree.leaves_with_path(variables)}
