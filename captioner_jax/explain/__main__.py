"""How far a captioner's maps can be believed, measured on drawn scenes, where it is known what words name.

python -m captioner_jax.explain CAPTIONER [--scenes 500] [--split test] [--seed 0]

Three tables: the pointing game, areas of deletion and insertion, and likeness to the maps of random weights.
"""

import sys
from dataclasses import dataclass

import tyro

from captioner_jax import bundle
from captioner_jax.compilation import keep_compiled
from captioner_jax.config import DataConfig, Positive, Seed, checked
from captioner_jax.data.shapes.builder import drawn
from captioner_jax.errors import UserError, for_people, leave
from captioner_jax.explain.measuring import measure, tables
from captioner_jax.platforms import leave_out_absent_tpus


@dataclass(frozen=True)
class Options:
    """Measures how far the maps of a captioner of drawn scenes can be believed."""

    captioner: tyro.conf.Positional[str]
    """A captioner directory, or hf://OWNER/NAME."""
    scenes: Positive = 500
    """So many, the first of the split."""
    split: str = "test"
    """Of the shapes data set."""
    seed: Seed = 0
    """Of random orders and random weights."""


@for_people
def main(arguments: list[str]) -> int:
    options = checked(tyro.cli(Options, args=arguments, prog="python -m captioner_jax.explain"))
    splits = drawn(DataConfig()).splits
    if options.split not in splits:
        raise UserError(f"--split: no split {options.split!r}; there are {', '.join(splits)}")
    if options.scenes > len(splits[options.split]):
        raise UserError(f"--scenes: {options.split} has {len(splits[options.split])} scenes, not {options.scenes}")
    leave_out_absent_tpus()
    keep_compiled()
    captioner = bundle.load(bundle.found(options.captioner))
    print(tables(measure(captioner, splits[options.split], options.scenes, options.seed)))
    return 0


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
