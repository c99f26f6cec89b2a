"""Checkpoints of a run, by Orbax: written in the background, whole or not at all, the newest few kept."""

import dataclasses
import json
import logging
from types import TracebackType

import jax
import orbax.checkpoint as ocp

from captioner_jax.config import Config
from captioner_jax.errors import UserError
from captioner_jax.training.step import TrainState

# May differ between a run and its resumption: they change what is shown or kept, not what is computed.
FREE_TO_CHANGE = ("runs", "evaluation", "train.log_every", "train.checkpoint_every", "train.keep_checkpoints")


class Checkpoints:
    """The checkpoints in a run's folder, with the configuration that they belong to."""

    def __init__(self, config: Config, resume: bool):
        """Raises UserError where there is a run already and `resume` is not asked for, or the other way round.

        Also where the run's configuration is not the one at hand.
        """
        logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax tells of every step it takes
        folder = config.folder.absolute() / "checkpoints"
        self.best_loss = float("inf")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            options = ocp.CheckpointManagerOptions(
                max_to_keep=config.train.keep_checkpoints, cleanup_tmp_directories=True
            )
            self.manager = ocp.CheckpointManager(folder, options=options)
            self._check(config, resume)
        except OSError as error:
            raise UserError(f"{config.folder}: cannot keep a run there: {error.strerror or error}") from error

    def _check(self, config: Config, resume: bool) -> None:
        latest, file = self.manager.latest_step(), config.folder / "config.json"
        if latest is None:
            if resume:
                raise UserError(f"{config.folder} has no checkpoint to resume from")
            file.write_text(json.dumps(dataclasses.asdict(config), indent=2) + "\n")
        elif not resume:
            raise UserError(
                f"{config.folder} holds a run up to step {latest}: go on with it by --resume, "
                "or choose another --name for this one"
            )
        else:
            changes = differences(json.loads(file.read_text()), json.loads(json.dumps(dataclasses.asdict(config))))
            if changes:
                raise UserError("\n".join([f"{config.folder} was begun with other settings:", *changes]))

    def is_best(self, loss: float) -> bool:
        """Is this validation loss less than any before? If so, it is the one to beat from now on."""
        better = loss < self.best_loss
        self.best_loss = min(loss, self.best_loss)
        return better

    def save(self, state: TrainState) -> None:
        """Begins to write; returns as soon as the state may be changed again."""
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(vars(state)), best=ocp.args.JsonSave({"loss": self.best_loss})
        )
        self.manager.save(int(state.step), args=items)

    def restore(self, like: TrainState) -> TrainState:
        """The newest state, in the shapes and places of `like`; `best_loss` becomes what it was then."""
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, vars(like))
        found = self.manager.restore(
            self.manager.latest_step(),
            args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract), best=ocp.args.JsonRestore()),
        )
        self.best_loss = found["best"]["loss"]
        return TrainState(**found["state"])

    @property
    def latest(self) -> int | None:
        return self.manager.latest_step()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Waits for what is being written."""
        self.manager.close()


def differences(old: dict, new: dict, prefix: str = "") -> list[str]:
    """The settings that differ, in words, without those that are free to."""
    changes = []
    for key in sorted(old.keys() | new.keys()):
        name = prefix + key
        if name in FREE_TO_CHANGE:
            continue
        was, now = old.get(key), new.get(key)
        if isinstance(was, dict) and isinstance(now, dict):
            changes += differences(was, now, name + ".")
        elif was != now:
            changes.append(f"  {name}: {was!r} then, {now!r} now")
    return changes
