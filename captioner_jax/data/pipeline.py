"""From examples to batches of arrays, with Grain: deterministic by seed, and the same from any step on."""

import itertools
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import grain
import jax
import numpy as np
from absl import flags
from jaxtyping import Bool, Float, Int, UInt8

from captioner_jax.config import DataConfig, TrainConfig
from captioner_jax.data.ahead import read_ahead
from captioner_jax.data.images import ImageError
from captioner_jax.data.order import Order, ShardByShard, mixed
from captioner_jax.data.pictures import training_pictures
from captioner_jax.data.plan import Plan
from captioner_jax.data.source import Example, Source
from captioner_jax.data.told import Told
from captioner_jax.data.views import Lesson, Pixels, Views
from captioner_jax.errors import UserError
from captioner_jax.text.special import PAD
from captioner_jax.text.tokenizer import Tokenizer

log = logging.getLogger(__name__)
# More batches than any run takes.
ENDLESS = 2**40


class HostShare(NamedTuple):
    """Of `hosts` hosts that train together, number `host`: it reads every so manieth row of each batch."""

    host: int = 0
    hosts: int = 1


ALONE = HostShare()


class Batch(NamedTuple):
    """Images as bytes (they become [0,1] on the device), as an encoder's cells or as lessons; G captions of each as
    U = T + 1 ids.

    An example that cannot be used is an image of zeros whose captions are all padding: it weighs nothing in the loss.
    (In the statistics of a batch normalisation that learns them, black is counted.)
    """

    images: UInt8[np.ndarray, "B Y X 3"] | Float[np.ndarray, "B y x C"] | Lesson
    tokens: Int[np.ndarray, "B G U"]
    usable: Bool[np.ndarray, " B"]
    numbers: Int[np.ndarray, " B"]
    """Which example of its split each is; 0 for filling."""


class ToBatch:
    """The number of a training batch becomes the batch: captions cut out, images as `views` shows them.

    Rows are numbered through the whole batch, so that they are the same however many hosts share it.
    """

    def __init__(self, source: Source, views: Views, plan: Plan, config: DataConfig, share: HostShare):
        self.source = source
        self.views = views
        self.plan = plan
        self.config = config
        self.share = share
        self.named: set[int] = set()

    def __call__(self, number: int) -> Batch:
        """Raises UserError for a damaged image where the configuration says to stop."""
        draw = self.plan.batch(number)
        rows = range(self.share.host, len(draw.images), self.share.hosts)
        return stack(
            [
                self.row(
                    draw.images[row],
                    draw.captions[row],
                    draw.length,
                    np.random.default_rng([self.plan.seed, number, row + 1]),  # NumPy takes [s, n, 0] for [s, n]
                )
                for row in rows
            ]
        )

    def row(self, image: np.integer, captions: np.ndarray, length: int, rng: np.random.Generator) -> Batch:
        """An image with its drawn captions."""
        told = self.plan.told
        try:
            view = self.views.training(int(image), not told.sided[captions].any(), rng)
        except ImageError as error:
            self.name(int(image), error)
            return unusable(self.views, len(captions), length)
        tokens = np.stack([told.row(caption, length) for caption in captions])
        return Batch(view, tokens, np.asarray(True), np.asarray(image, np.int32))

    def name(self, image: int, error: ImageError) -> None:
        """Says once, not once an epoch, that an image is of no use."""
        if image in self.named:
            return
        self.named.add(image)
        tell_of(self.source[image].name, error, self.config)


class AllCaptions:
    """An example becomes a row of an evaluation batch: its up to G captions, its image as `sample.py` sees it."""

    def __init__(self, views: Views, config: DataConfig, tokenizer: Tokenizer, captions: int):
        self.views = views
        self.config = config
        self.tokenizer = tokenizer
        self.captions = captions

    def __call__(self, i: int, example: Example) -> Batch:
        """Raises ImageError for an image of no use."""
        row, view = unusable(self.views, self.captions, self.config.max_length), self.views.evaluation(i, example)
        for number, caption in enumerate(example.captions):
            row.tokens[number] = self.tokenizer.encode(caption, self.config.max_length)
        return Batch(view, row.tokens, np.asarray(True), np.asarray(i, np.int32))


def tell_of(name: str, error: ImageError, config: DataConfig) -> None:
    """Of an image of no use. Raises UserError where the configuration says to stop."""
    if config.on_error == "stop":
        raise UserError(f"{name}: {error}; --data.on-error skip goes on without it") from error
    log.warning("%s: %s", name, error)


def unusable(views: Views, captions: int, length: int) -> Batch:
    """A row that weighs nothing."""
    tokens = np.full((captions, length + 1), PAD, np.int32)
    return Batch(views.nothing(), tokens, np.asarray(False), np.asarray(0, np.int32))


def stack(rows: list[Batch]) -> Batch:
    """Rows as one batch."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *rows)


def check_batches(source: Source, data: DataConfig, train: TrainConfig) -> None:
    """Raises UserError where the training images do not fill one batch, or a setting cannot be meant for them."""
    if len(source) < train.batch_size:
        raise UserError(f"{len(source)} training images do not fill a batch: lower --train.batch-size")
    if data.shards_at_once is not None and source.shards() is None:
        raise UserError("data.shards_at_once: these images do not lie in shards; leave it out")


def check_captions(splits: Mapping[str, Source]) -> None:
    """Raises UserError where an image to be scored has no captions."""
    for split, source in splits.items():
        bare = next((i for i, captions in enumerate(source.captions()) if not captions), None)
        if bare is not None:
            raise UserError(f"{source[bare].name} ({split}) has no captions: leave it out, or write one")


def check_words(told: Told) -> None:
    """Raises UserError where the vocabulary has no word of the training captions."""
    if told.unknown == 1:
        raise UserError(
            "the vocabulary has no word of the training captions: lower data.min_count, or take data.tokenizer bpe; if "
            "train.start names a captioner, it writes other words"
        )


def training_batches(
    source: Source,
    told: Told,
    data: DataConfig,
    train: TrainConfig,
    *,
    first: int = 0,
    share: HostShare = ALONE,
    views: Views | None = None,
) -> Iterator[Batch]:
    """A host's share of batches number `first`, `first` + 1, ... without end; `told` are the captions of `source`.

    Images are as `views` shows them; without it, pixels decoded and augmented. Raises UserError where a batch does not
    divide among the hosts.
    """
    if train.batch_size % share.hosts:
        raise UserError(f"train.batch_size: {train.batch_size} images do not divide among {share.hosts} hosts")
    lengths = (*data.buckets, data.max_length)
    if train.objective == "self_critical":  # whose rewards look at all captions, and whose own take the greatest length
        told, lengths = told.sided_by_image(), lengths[-1:]
    plan = Plan(told, _order(source, data, train.seed), train.batch_size, data.captions_per_image, lengths, train.seed)
    views = views or Pixels(data, training_pictures(source, data))
    to_batch = ToBatch(source, views, plan, data, share)
    return iter(_prefetched(grain.MapDataset.range(first, ENDLESS).map(to_batch), data.workers))


def evaluation_batches(
    source: Source,
    config: DataConfig,
    tokenizer: Tokenizer,
    *,
    batch_size: int,
    images: int | None = None,
    views: Views | None = None,
) -> Iterator[tuple[list[Example], Batch]]:
    """The first `images` of a split (or all) in order, each with all its captions, which are filled up to the most.

    Images are as `views` shows them; without it, pixels. With each batch come its examples, as many as it has rows that
    are not filling. The next one is read while a batch is in use. Raises UserError where an image has no captions, and
    for a damaged one where the configuration says to stop.
    """
    count = len(source) if images is None else min(images, len(source))
    captions = max(map(len, itertools.islice(source.captions(), count)), default=0)
    views = views or Pixels(config)
    row = AllCaptions(views, config, tokenizer, captions)
    filling = unusable(views, captions, config.max_length)

    def read(i: int) -> tuple[Example, Batch | ImageError]:
        example = source[i]
        if not example.captions:
            raise UserError(f"{example.name} has no captions: leave it out, or write one")
        try:
            return example, row(i, example)
        except ImageError as error:
            return example, error

    for batch in read_ahead(range(count), batch_size, read):
        rows = [filling] * batch_size
        for place, (_, (example, found)) in enumerate(batch):
            if isinstance(found, ImageError):
                tell_of(example.name, found, config)
            else:
                rows[place] = found
        yield [example for _, (example, _) in batch], stack(rows)


def _order(source: Source, config: DataConfig, seed: int) -> Order:
    shards = source.shards()
    if config.shards_at_once is None or shards is None:
        return mixed(len(source), seed)
    return ShardByShard(shards, config.shards_at_once, seed)


def _prefetched(data: grain.MapDataset, workers: int) -> grain.IterDataset:
    """In threads, a few batches ahead of the model; or in worker processes."""
    if workers == 0:
        threads = min(8, os.cpu_count() or 1)
        return data.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads))
    flags.FLAGS.mark_as_parsed()  # Grain's processes want absl's flags, which only absl's own main function parses
    options = grain.MultiprocessingOptions(num_workers=workers)
    one_by_one = data.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2))
    return one_by_one.mp_prefetch(options, worker_init_fn=_follow_the_run)


def _follow_the_run(worker: int, workers: int) -> None:
    """A worker ends with the run and not before: signals that are sent to all of its processes are for the run.

    Grain ends its workers; what is killed, or leaves without Python's farewell, does not come to that.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_run, daemon=True).start()


def _end_with_the_run() -> None:
    run = multiprocessing.parent_process()
    if run is not None:
        run.join()
        os._exit(0)
