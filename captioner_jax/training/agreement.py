"""Hosts that train together must mean the same; they compare settings before anything is read, data before a step."""

import numpy as np

from captioner_jax.config import Config
from captioner_jax.errors import UserError
from captioner_jax.training import hosts
from captioner_jax.training.checkpoints import as_json, differing

# A host's own: where things lie on its disks, which it is, what it shows.
OWN = (
    *("runs", "data.path", "data.data_dir", "data.images", "data.captions", "data.splits", "data.cache"),
    *("data.features", "data.workers", "teacher.features", "model.encoder.weights", "teacher.encoder.weights"),
    *("train.start", "train.checkpoints", "train.profile", "evaluation.examples"),
    *("devices.process", "devices.coordinator"),
)


def agree_on_settings(config: Config) -> None:
    """Raises UserError, on all hosts, where one has other settings than the first."""
    mine = as_json(config)
    differ = differing(hosts.json_of_first(mine), mine, OWN)
    _refuse([f"  {name}: {first!r} there, {here!r} here" for name, first, here in differ])


def agree_on_data(mark: str, validation: dict[str, int]) -> None:
    """Raises UserError, on all hosts, where the data of one have another mark than those of the first, or as many
    images for validation: all score as many batches."""
    first, images = hosts.json_of_first([mark, validation])
    differ = [] if first == mark else ["  the training captions, or their vocabulary"]
    if images != validation:
        differ.append(f"  images for validation: {images} there, {validation} here")
    _refuse(differ)


def _refuse(differ: list[str]) -> None:
    """Raises UserError where anything does differ here, or elsewhere."""
    others = np.flatnonzero(hosts.of_each(np.asarray(bool(differ))))
    if differ:
        raise UserError("\n".join([f"host {hosts.number()} would not train what host 0 does:", *differ]))
    if others.size:
        which = ", ".join(map(str, others))
        raise UserError(f"host {which} would not train what host 0 does: it tells how they differ")
