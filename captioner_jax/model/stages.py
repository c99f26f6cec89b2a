"""An encoder as stages, one after the other, that can be cut between any two of them."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TypeVar

import jax
from flax import nnx
from jaxtyping import Array, Float

from captioner_jax.config import EncoderConfig
from captioner_jax.model.rematerialisation import Stack

Row = TypeVar("Row")


def first_stages(table: Sequence[Row], config: EncoderConfig) -> Sequence[Row]:
    """The stages of a network that are used. Raises ValueError where it is to end after more than it has."""
    if config.ends_after is not None and config.ends_after > len(table):
        raise ValueError(f"{config.kind} has {len(table)} stages and cannot end after {config.ends_after}")
    return table[: config.ends_after]


class Staged(Stack):
    """A network of stages; `frozen_stages` of them, the first ones with all that lies below, are no longer learned.

    In training, where there are `rngs`, batch norms that are trained learn their statistics.
    """

    depth: int
    """Stages."""
    frozen_stages: int

    def set_depth(self, depth: int, config: EncoderConfig) -> None:
        """Raises ValueError where not even the last stage would learn."""
        if config.frozen_stages >= depth:
            raise ValueError(f"frozen_stages = {config.frozen_stages} leaves none of {depth} to learn: freeze it all")
        self.depth, self.frozen_stages = depth, config.frozen_stages

    @abstractmethod
    def enter(self, images: Float[Array, "B Y X 3"], rngs: nnx.Rngs | None) -> Float[Array, "B _ _ _"]:
        """What the first stage takes."""

    @abstractmethod
    def stage(self, i: int, x: Float[Array, "B _ _ _"], rngs: nnx.Rngs | None) -> Float[Array, "B _ _ _"]:
        """What stage i gives."""

    def onward(self, i: int, x: Float[Array, "B _ _ _"], rngs: nnx.Rngs | None) -> Float[Array, "B _ _ _"]:
        """What stage i gave, as the next takes it."""
        return x

    def stages(self, images: Float[Array, "B Y X 3"], rngs: nnx.Rngs | None = None) -> list[Float[Array, "B _ _ _"]]:
        """What each stage gives."""
        return self._from(0, self.enter(images, rngs), rngs)

    def lower(self, images: Float[Array, "B Y X 3"]) -> Float[Array, "B _ _ _"]:
        """What the first stage that learns takes: no gradient passes below it."""
        x = self.enter(images, None)
        for i in range(self.frozen_stages):
            x = self.onward(i, self.stage(i, x, None), None)
        return jax.lax.stop_gradient(x)

    def upper(self, x: Float[Array, "B _ _ _"], rngs: nnx.Rngs | None = None) -> Float[Array, "B y x C"]:
        """The cells, from what `lower` gave."""
        return self._from(self.frozen_stages, x, rngs)[-1]

    def __call__(self, images: Float[Array, "B Y X 3"], rngs: nnx.Rngs | None = None) -> Float[Array, "B y x C"]:
        """The cells of the last stage."""
        return self.upper(self.lower(images), rngs) if self.frozen_stages else self.stages(images, rngs)[-1]

    def _from(self, first: int, x: Float[Array, "B _ _ _"], rngs: nnx.Rngs | None) -> list[Float[Array, "B _ _ _"]]:
        """What stage `first`, which takes x, and each after it give."""
        given = [self.through(type(self).stage, self, first, x, rngs)]
        for i in range(first + 1, self.depth):
            x = self.onward(i - 1, given[-1], rngs)
            given.append(self.through(type(self).stage, self, i, x, rngs))
        return given
