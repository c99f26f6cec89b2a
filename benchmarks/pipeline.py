"""How fast training batches are made, on one core: this pipeline, Pillow alone, and a PyTorch DataLoader.

    python benchmarks/pipeline.py configs/flickr8k_scratch.toml --data.path FOLDER

Takes a training run's options, `--rounds 5` and `--json FILE` (the results as data). All read the same photographs
from the same source and crop, mirror and jitter them alike; Pillow alone only decodes and resizes, which is the limit.
PyTorch is left out where it is not installed. Each is run in turn, several times; the medians are printed, in images a
second and as shares of the limit.
"""

import argparse
import dataclasses
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from rows import Rows

sys.path.insert(0, str(Path(__file__).parents[1]))
from captioner_jax.config import Config, from_command_line
from captioner_jax.data.augmentation import augment
from captioner_jax.data.images import open_image, to_square
from captioner_jax.data.load import load
from captioner_jax.data.pipeline import training_batches
from captioner_jax.data.source import Source
from captioner_jax.data.told import Told
from captioner_jax.errors import for_people
from captioner_jax.text.tokenizer import Tokenizer

IMAGES = 1024
PILLOW, OURS, TORCH = "Pillow alone", "this pipeline", "torch DataLoader"


@for_people
def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    asked, arguments = parser.parse_known_args(arguments)
    rows = Rows(asked.json)
    config, *_ = from_command_line(arguments)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one core: Linux only
    data = load(config.data)
    captions = list(data.train.captions())
    told = Told.of(captions, Tokenizer.train(captions, config.data))
    with tempfile.TemporaryDirectory() as cache:
        cached = dataclasses.replace(config.data, cache=cache)
        ways: dict[str, Callable[[], Iterator[object]]] = {
            PILLOW: lambda: pillow(data.train, config),
            OURS: lambda: training_batches(data.train, told, config.data, config.train),
            "with data.cache": lambda: training_batches(data.train, told, cached, config.train),
        }
        loader = torch_loader(data.train, told, config)
        if loader:
            ways[TORCH] = lambda: itertools.chain.from_iterable(itertools.repeat(loader))
        else:
            rows.note("PyTorch is not installed beside this package: left out")
        rates = {name: [] for name in ways}
        for _ in range(asked.rounds):
            for name, start in ways.items():
                rates[name].append(measure(start(), config.train.batch_size))
    limit = statistics.median(rates[PILLOW])
    ours = statistics.median(rates[OURS])
    for name, of in rates.items():
        median = statistics.median(of)
        print(
            f"{name:<18} {median:7.0f} images/s   {median / limit:.2f} of Pillow alone   {[round(rate) for rate in of]}"
        )
        figures = {"images/s": median, "of Pillow alone": median / limit}
        rows.row("The pipeline", "one core", name, figures, ratio=ours / median if name == TORCH else None)
    return 0


def measure(batches: Iterator[object], batch_size: int) -> float:
    """Images a second, after two batches to warm up."""
    count = max(1, IMAGES // batch_size)
    for _ in itertools.islice(batches, 2):
        pass
    start = time.perf_counter()
    for _ in itertools.islice(batches, count):
        pass
    return count * batch_size / (time.perf_counter() - start)


def pillow(source: Source, config: Config) -> Iterator[list[np.ndarray]]:
    """Decodes and resizes, in order."""
    size, framing, batch = config.data.image_size, config.data.framing, config.train.batch_size
    for start in itertools.cycle(range(0, len(source) - batch + 1, batch)):
        yield [to_square(open_image(source[i].image, size), size, framing) for i in range(start, start + batch)]


def torch_loader(source: Source, told: Told, config: Config):
    """The same rows by PyTorch, in this very process, or None where it is not installed."""
    try:
        import torch
        from torch.utils.data import DataLoader, Dataset
    except ImportError:
        return None
    torch.set_num_threads(1)

    class Drawn(Dataset):
        def __len__(self) -> int:
            return len(source)

        def __getitem__(self, i: int):
            rng = np.random.default_rng()
            image = augment(open_image(source[i].image, config.data.image_size), config.data, True, rng)
            drawn = [int(told.first[i]) + k for k in range(config.data.captions_per_image)]
            return image, np.stack([told.row(caption, config.data.max_length) for caption in drawn])

    return DataLoader(Drawn(), config.train.batch_size, shuffle=True, drop_last=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
