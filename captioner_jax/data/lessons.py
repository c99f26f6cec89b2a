"""Training images beside what a teacher makes of the same parts of them."""

import dataclasses

import numpy as np
from PIL import Image

from captioner_jax.config import DataConfig, TeacherConfig
from captioner_jax.data.augmentation import jitter
from captioner_jax.data.features import Features, pixels_of
from captioner_jax.data.pictures import Pictures
from captioner_jax.data.source import Example
from captioner_jax.data.views import Lesson, Pixels


def parts_shown(config: DataConfig, teacher: TeacherConfig) -> DataConfig:
    """How a teacher's views are made and kept."""
    return dataclasses.replace(_cropped(config), image_size=teacher.image_size, features=teacher.features)


def _cropped(config: DataConfig) -> DataConfig:
    """Views are crops, and otherwise as they are: what mirrors or colours them comes after the teacher."""
    return dataclasses.replace(config, flip=False, jitter=0.0, randaugment=0.0)


class Lessons:
    """The views of an image that a teacher has seen, as `Views`, at the size that the captioner sees.

    Teacher and captioner are shown one part of the image (Beyer et al. 2022, "Knowledge distillation: A good teacher is
    patient and consistent", section 3). Where the captioner's is mirrored, the teacher's cells are turned with it, as
    if it saw alike on both sides; which is nearly true, and of convolutional networks alone. Colours change for the
    captioner only.
    """

    def __init__(self, config: DataConfig, pictures: Pictures, taught: Features):
        self.config = config
        self.pictures = pictures
        self.taught = taught
        self.cropped = _cropped(config)

    def training(self, i: int, mirror: bool, rng: np.random.Generator) -> Lesson:
        view = int(rng.integers(self.taught.views))
        pixels, _ = pixels_of(view, i, self.pictures.read(i), self.cropped)
        cells = self.taught.view(view, i)
        if self.config.flip and mirror and rng.random() < 0.5:
            pixels, cells = pixels[:, ::-1], cells[:, ::-1]
        if self.config.jitter > 0:
            pixels = np.asarray(jitter(Image.fromarray(pixels), self.config.jitter, rng))
        return Lesson(pixels, cells)

    def evaluation(self, i: int, example: Example) -> Lesson:
        return Lesson(Pixels(self.config).evaluation(i, example), self.taught.evaluation(i, example))

    def nothing(self) -> Lesson:
        return Lesson(Pixels(self.config).nothing(), self.taught.nothing())
