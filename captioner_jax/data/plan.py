"""Which images, and which of their captions, each training batch takes: a function of the seed and its number alone.

So a resumed run needs no more than its step to go on with the very next batch, and every host and worker process
can work out its own share.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from captioner_jax.data.once import computed_once
from captioner_jax.data.order import Order
from captioner_jax.data.told import Told

# Batches among which captions of like length are brought together.
WINDOW = 32


class Draw(NamedTuple):
    """The images of a batch, G captions of each by their number in `Told`, and the length T that they are held in."""

    images: Int[np.ndarray, " B"]
    captions: Int[np.ndarray, "B G"]
    length: int


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """Every epoch in another order, with other captions; each image once an epoch."""

    told: Told
    order: Order
    batch_size: int
    captions_per_image: int
    lengths: tuple[int, ...]
    """The values of T, in rising order. With more than one, batches gather captions of like length."""
    seed: int

    def batch(self, number: int) -> Draw:
        """Batch 0, 1, ... without end."""
        window, place = divmod(number, self.window)
        return _window(self, window)[place]

    @property
    def window(self) -> int:
        """Batches that are planned together."""
        return WINDOW if len(self.lengths) > 1 else 1


@computed_once(4)
def _window(plan: Plan, number: int) -> list[Draw]:
    """The batches of a window.

    Its images are sorted by their longest drawn caption, cut into batches, and these shuffled.
    """
    size = plan.batch_size * plan.window
    images = np.asarray([plan.order[place] for place in range(number * size, (number + 1) * size)])
    rng = np.random.default_rng([plan.seed, number])
    captions = np.stack([draw_captions(plan.told, image, plan.captions_per_image, rng) for image in images])
    longest = np.asarray([max(plan.told.length(caption) for caption in row) for row in captions])
    shares = [np.arange(size)] if plan.window == 1 else np.split(np.argsort(longest, kind="stable"), plan.window)
    return [
        Draw(images[share], captions[share], _held_in(int(longest[share].max()), plan.lengths))
        for share in (shares[i] for i in rng.permutation(plan.window))
    ]


def draw_captions(told: Told, image: int | np.integer, count: int, rng: np.random.Generator) -> Int[np.ndarray, " G"]:
    """`count` captions of an image, each as often as any other, none again before all have been drawn."""
    has = told.count(image)
    order = np.concatenate([rng.permutation(has) for _ in range(-(-count // has))])
    return told.first[image] + order[:count]


def _held_in(longest: int, lengths: tuple[int, ...]) -> int:
    """The least of the lengths that holds a caption; the greatest where none does."""
    return next((length for length in lengths if length >= longest), lengths[-1])
