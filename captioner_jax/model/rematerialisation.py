"""Memory bought with time: what a block computes within is not kept for the way back, but computed again there.

Only what goes from block to block is kept (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost").
"""

from collections.abc import Callable
from typing import Any, TypeVar

from flax import nnx

Out = TypeVar("Out")


class Stack(nnx.Module):
    """A module that goes through blocks."""

    recomputes: bool = False

    def through(self, method: Callable[..., Out], block: nnx.Module, *arguments: Any, **named: Any) -> Out:
        """`method` of a block; on the way back it is computed again where this stack `recomputes`."""
        if not self.recomputes:
            return method(block, *arguments, **named)
        numbers = tuple(i for i, argument in enumerate(arguments, 1) if isinstance(argument, int))
        return nnx.remat(method, static_argnums=numbers)(block, *arguments, **named)


def rematerialise(model: nnx.Module) -> None:
    """From now on all stacks of a model recompute."""
    for _, module in nnx.iter_modules(model):
        if isinstance(module, Stack):
            module.recomputes = True
