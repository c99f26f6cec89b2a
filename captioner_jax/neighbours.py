"""Lets a captioner keep its training photographs: what it sees in each, and what people wrote of it.

python -m captioner_jax.neighbours CAPTIONER --data.path DATA [--data.features FOLDER]
python -m captioner_jax.evaluate CAPTIONER --data.path DATA --beam 20 --consensus 100 --neighbours 20
python sample.py PHOTOS --captioner CAPTIONER --beam 20 --consensus 100 --neighbours 20

Whoever has the captioner's directory can then read those captions in it.
"""

import dataclasses
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tqdm
import tyro

from captioner_jax import bundle
from captioner_jax.asked import of_captioner
from captioner_jax.bundle import PHOTOGRAPHS, Bundle
from captioner_jax.compilation import keep_compiled
from captioner_jax.config import DataConfig, Positive
from captioner_jax.data.features import load_features, make_eye, make_sight
from captioner_jax.data.load import load
from captioner_jax.data.pipeline import check_captions, evaluation_batches
from captioner_jax.data.source import Source
from captioner_jax.data.views import Views
from captioner_jax.devices import even_rows, everywhere
from captioner_jax.errors import UserError, for_people, leave, naming
from captioner_jax.generation.neighbours import Photographs
from captioner_jax.platforms import leave_out_absent_tpus


@dataclass(frozen=True)
class Options:
    """Lets a captioner keep the photographs of a training split, for neighbours to be found among them."""

    captioner: tyro.conf.Positional[str]
    """A captioner directory."""
    data: DataConfig = field(default_factory=DataConfig)
    """Where data.features names those that it was trained from, nothing that was frozen is computed anew."""
    batch_size: Positive = 50
    """Images at a time, on all devices together."""


@for_people
def main(arguments: list[str]) -> int:
    program = "python -m captioner_jax.neighbours"
    leave_out_absent_tpus()
    keep_compiled()
    if arguments and arguments[0].startswith("hf://"):
        raise UserError(f"{arguments[0]}: only a captioner on this disk can keep photographs: download it before")
    captioner, options = of_captioner(Options, arguments, program)
    directory = Path(options.captioner)
    if not os.access(directory, os.W_OK):
        raise UserError(f"{directory} may not be written in: no photographs can be kept there")
    data = load(options.data)
    check_captions({"train": data.train})
    print(f"{data.about}; {len(data.train)} images")
    kept = look(captioner, data.train, options.data, options.batch_size)
    with naming(directory):
        bundle.keep(directory, kept)
    size = (directory / PHOTOGRAPHS).stat().st_size / 1e6
    print(f"{directory} keeps {len(kept.seen)} photographs ({PHOTOGRAPHS}, {size:.1f} MB)")
    if len(kept.seen) < len(data.train):
        print(f"{len(data.train) - len(kept.seen)} images could not be used and are not kept")
    return 0


def look(captioner: Bundle, train: Source, config: DataConfig, batch_size: int) -> Photographs:
    """What it sees in each image of a split, and all that people wrote of it. Raises UserError where none is of use."""
    how = captioner.preprocessing
    config = dataclasses.replace(
        config, image_size=how.image_size, framing=how.framing, max_length=captioner.max_length
    )
    see, parameters = make_sight(captioner.graphdef, captioner.preprocessing), everywhere(captioner.parameters)
    batch_size = even_rows(batch_size)
    seen, captions = [], []
    batches = evaluation_batches(
        train,
        config,
        captioner.tokenizer,
        batch_size=batch_size,
        views=_views(captioner, train, config),
    )
    total = -(-len(train) // batch_size)
    for _, batch in tqdm.tqdm(batches, "looking", total, unit="batch", leave=False, disable=None):
        cells = np.asarray(see(parameters, batch.images), np.float32)
        seen.append(cells.mean((1, 2))[batch.usable].astype(np.float16))
        captions.append(batch.tokens[batch.usable, :, 1:])  # without START
    kind = np.int16 if len(captioner.tokenizer) <= np.iinfo(np.int16).max else np.int32
    if not sum(map(len, seen)):
        raise UserError("none of the images can be used")
    return Photographs(np.concatenate(seen), np.concatenate(captions).astype(kind))


def _views(captioner: Bundle, train: Source, config: DataConfig) -> Views | None:
    if config.features is None:
        return None
    eye = make_eye(captioner.model.encoder, captioner.graphdef, captioner.parameters, captioner.preprocessing)
    return load_features(train, "train", config, eye, views=config.views)


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
