"""Hosts that train together must mean the same; they compare before anything is computed."""

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


def check_agreement(config: Config, mark: str) -> None:
    """Raises UserError, on all hosts, where one has other settings, or data of another mark, than the first."""
    mine = {"settings": as_json(config), "data": mark}
    firsts = hosts.json_of_first(mine)
    differ = [
        f"  {name}: {first!r} there, {here!r} here"
        for name, first, here in differing(firsts["settings"], mine["settings"], OWN)
    ]
    if firsts["data"] != mine["data"]:
        differ.append("  the training captions, or their vocabulary")
    others = np.flatnonzero(hosts.of_each(np.asarray(bool(differ))))
    if differ:
        raise UserError("\n".join([f"host {hosts.number()} would not train what host 0 does:", *differ]))
    if others.size:
        which = ", ".join(map(str, others))
        raise UserError(f"host {which} would not train what host 0 does: it tells how they differ")
