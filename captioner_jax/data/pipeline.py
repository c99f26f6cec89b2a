"""From examples to batches of arrays, with Grain: deterministic by seed, and the same from any step on.

Batch number i depends on nothing but the data, the settings and i, so that a resumed run needs no more than its step
to go on with the very next batch, whatever the number of workers.
"""

import logging
import re
from collections.abc import Iterator
from typing import NamedTuple

import grain
import numpy as np
from absl import flags
from jaxtyping import Bool, Int, UInt8

from captioner_jax.config import DataConfig, TrainConfig
from captioner_jax.data.images import ImageError, augment, open_image, to_square
from captioner_jax.data.source import Example, Source
from captioner_jax.errors import UserError
from captioner_jax.text.special import PAD
from captioner_jax.text.tokenizer import Tokenizer

log = logging.getLogger(__name__)

_SIDED = re.compile(r"\b(left|right)\b", re.IGNORECASE)


class Batch(NamedTuple):
    """Images as bytes (they become [0,1] on the device), and G captions of each as U = T + 1 ids.

    An example that cannot be used is a black image whose captions are all padding: it weighs nothing in the loss.
    """

    images: UInt8[np.ndarray, "B Y X 3"]
    tokens: Int[np.ndarray, "B G U"]
    usable: Bool[np.ndarray, " B"]


class ToArrays:
    """An example becomes a row of a training batch: captions drawn, image augmented."""

    def __init__(self, config: DataConfig, tokenizer: Tokenizer):
        self.config = config
        self.tokenizer = tokenizer
        self.told: set[str] = set()

    def __call__(self, element: Example, rng: np.random.Generator) -> Batch:
        """Raises UserError for a damaged image where the configuration says to stop."""
        config = self.config
        captions = draw_captions(element.captions, config.captions_per_image, rng)
        mirror = config.flip and not any(map(_SIDED.search, captions))
        try:
            image = open_image(element.image, config.image_size)
        except ImageError as error:
            if config.on_error == "stop":
                raise UserError(f"{element.name}: {error}; --data.on_error skip trains on without it") from error
            if element.name not in self.told:  # once, not once an epoch
                self.told.add(element.name)
                log.warning("%s: %s", element.name, error)
            return unusable(config.image_size, config.captions_per_image, config.max_length)
        pixels = augment(image, config.image_size, config.crop, mirror, rng)
        tokens = np.stack([self.tokenizer.encode(caption, config.max_length) for caption in captions])
        return Batch(pixels, tokens, np.asarray(True))


class FirstCaptions:
    """An example becomes a row of an evaluation batch: its first G captions, its image as `sample.py` sees it."""

    def __init__(self, config: DataConfig, tokenizer: Tokenizer, captions: int):
        self.config = config
        self.tokenizer = tokenizer
        self.captions = captions

    def __call__(self, element: Example) -> Batch:
        size, length = self.config.image_size, self.config.max_length
        row = unusable(size, self.captions, length)
        try:
            image = open_image(element.image, size)
        except ImageError as error:
            log.warning("%s: %s", element.name, error)
            return row
        for i, caption in enumerate(element.captions[: self.captions]):
            row.tokens[i] = self.tokenizer.encode(caption, length)
        return Batch(to_square(image, size), row.tokens, np.asarray(True))


def draw_captions(captions: tuple[str, ...], count: int, rng: np.random.Generator) -> list[str]:
    """`count` of the captions, each as often as any other, none again before all have been drawn."""
    rounds = -(-count // len(captions))
    order = np.concatenate([rng.permutation(len(captions)) for _ in range(rounds)])
    return [captions[i] for i in order[:count]]


def unusable(size: int, captions: int, length: int) -> Batch:
    """A row that weighs nothing."""
    tokens = np.full((captions, length + 1), PAD, np.int32)
    return Batch(np.zeros((size, size, 3), np.uint8), tokens, np.asarray(False))


def check_batches(source: Source, train: TrainConfig) -> None:
    """Raises UserError where the training images do not fill one batch."""
    if len(source) < train.batch_size:
        raise UserError(f"{len(source)} training images do not fill a batch: lower --train.batch_size")


def training_batches(
    source: Source, config: DataConfig, tokenizer: Tokenizer, train: TrainConfig, first: int
) -> Iterator[Batch]:
    """Batches number `first`, `first` + 1, ... without end: every epoch in another order, with other captions."""
    data = grain.MapDataset.source(source).seed(train.seed).shuffle()
    data = data.repeat().random_map(ToArrays(config, tokenizer)).batch(train.batch_size)
    return iter(_read_ahead(data.slice(slice(first, None)), config.workers))


def evaluation_batches(
    source: Source, config: DataConfig, tokenizer: Tokenizer, *, batch_size: int, images: int | None = None
) -> Iterator[tuple[list[Example], Batch]]:
    """The first `images` of a split (or all) in order, with as many captions as the first has.

    With each batch come its examples, as many as it has rows that are not filling.
    """
    count = len(source) if images is None else min(images, len(source))
    captions = len(source[0].captions)
    row = FirstCaptions(config, tokenizer, captions)
    filling = unusable(config.image_size, captions, config.max_length)
    for start in range(0, count, batch_size):
        examples = [source[i] for i in range(start, min(start + batch_size, count))]
        rows = [row(example) for example in examples]
        rows += [filling] * (batch_size - len(rows))
        yield examples, Batch(*map(np.stack, zip(*rows, strict=True)))


def _read_ahead(data: grain.MapDataset, workers: int) -> grain.IterDataset:
    """In two threads and two batches ahead of the model; or in worker processes."""
    if workers == 0:
        return data.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=2))
    flags.FLAGS.mark_as_parsed()  # Grain's processes want absl's flags, which only absl's own main function parses
    options = grain.MultiprocessingOptions(num_workers=workers)
    return data.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)).mp_prefetch(options)
