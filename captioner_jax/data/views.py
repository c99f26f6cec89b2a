"""What the model is shown of an image: its pixels, or what a frozen encoder made of them."""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float16, UInt8

from captioner_jax.config import DataConfig
from captioner_jax.data.augmentation import augment
from captioner_jax.data.images import open_image, to_square
from captioner_jax.data.pictures import Pictures
from captioner_jax.data.source import Example


class Lesson(NamedTuple):
    """A part of an image, and the cells that a teacher makes of it; or a batch of these."""

    pixels: UInt8[Any, "*B Y X 3"]
    cells: Float16[Any, "*B y x C"]


@runtime_checkable
class Views(Protocol):
    """Arrays of one shape and type, or lessons, of a split's images. Each raises ImageError for an image of no use."""

    def training(self, i: int, mirror: bool, rng: np.random.Generator) -> np.ndarray | Lesson:
        """Image i, changed at random; `mirror` says whether it may be mirrored."""
        ...

    def evaluation(self, i: int, example: Example) -> np.ndarray | Lesson:
        """Image i, that of `example`, as captions are written of it."""
        ...

    def nothing(self) -> np.ndarray | Lesson:
        """In the place of an image of no use."""
        ...


class Pixels:
    """Pixels as bytes; they become [0,1] on the device."""

    def __init__(self, config: DataConfig, pictures: Pictures | None = None):
        """`pictures` are needed for training only."""
        self.config = config
        self.pictures = pictures

    def training(self, i: int, mirror: bool, rng: np.random.Generator) -> UInt8[np.ndarray, "Y X 3"]:
        assert self.pictures is not None
        return augment(self.pictures.read(i), self.config, mirror, rng)

    def evaluation(self, i: int, example: Example) -> UInt8[np.ndarray, "Y X 3"]:
        size = self.config.image_size
        return to_square(open_image(example.image, size), size, self.config.framing)

    def nothing(self) -> UInt8[np.ndarray, "Y X 3"]:
        return np.zeros((self.config.image_size, self.config.image_size, 3), np.uint8)
