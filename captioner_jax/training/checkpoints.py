"""Checkpoints of a run, by Orbax: written in the background, whole or not at all, the newest few kept."""

import contextlib
import dataclasses
import functools
import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp

from captioner_jax.config import Config, Resumption, from_dict
from captioner_jax.errors import UserError
from captioner_jax.files import write_whole
from captioner_jax.training import hosts
from captioner_jax.training.step import TrainState

SETTINGS = "config.json"
# May differ between a run and its resumption: they change what is shown or kept, or where it is computed.
FREE_TO_CHANGE = (
    *("runs", "evaluation", "devices", "data.workers"),
    *("train.log_every", "train.checkpoint_every", "train.keep_checkpoints", "train.keep_every", "train.profile"),
)


def check_run(config: Config, how: Resumption) -> None:
    """Raises UserError where there is a run already and no resumption is asked for, or the other way round.

    Also where the run was begun with other settings, unless that is allowed; then it tells of them. Writes nothing.
    """
    try:
        steps = ocp.utils.checkpoint_steps(_folder(config)) if _folder(config).is_dir() else []
        if steps and not (how.resume or how.begin_or_resume):
            raise UserError(
                f"{config.folder} holds a run up to step {max(steps)}: go on with it by --resume, "
                "or choose another --name for this one"
            )
        if how.resume and not steps:
            raise UserError(f"{config.folder} has no checkpoint to resume from")
        if not steps:
            return
        begun = json.loads((config.folder / SETTINGS).read_text(encoding="utf-8"))
        begun = _settings(from_dict(begun, str(config.folder / SETTINGS)))  # settings that are new since: by default
    except (OSError, ValueError) as error:
        raise UserError(f"{config.folder}: cannot read the run there: {error}") from error
    changes = differences(begun, _settings(config))
    told = "\n".join([f"{config.folder} was begun with other settings:", *changes])
    if changes and not how.allow_changes:
        raise UserError(f"{told}\n--allow-changes goes on with those of now")
    if changes:
        print(told)


class Best(NamedTuple):
    """The greatest score so far, and how many have been counted since that were not greater."""

    score: float
    fruitless: int


class Checkpoints:
    """The checkpoints in a run's folder, with the configuration that they belong to."""

    def __init__(self, config: Config):
        """Makes the run's folder if need be. Raises UserError where nothing can be written there."""
        logging.getLogger("absl").setLevel(logging.CRITICAL)  # Orbax tells of every step; of what fails, we do
        self.folder = config.folder
        self.best = Best(float("-inf"), 0)
        try:
            _folder(config).mkdir(parents=True, exist_ok=True)
            options = ocp.CheckpointManagerOptions(
                max_to_keep=config.train.keep_checkpoints,
                keep_period=config.train.keep_every,
                cleanup_tmp_directories=True,
            )
            handlers = {"state": ocp.StandardCheckpointHandler(), "best": ocp.JsonCheckpointHandler()}
            self.manager = ocp.CheckpointManager(_folder(config), options=options, item_handlers=handlers)
            if hosts.is_first():
                write_whole(config.folder / SETTINGS, json.dumps(_settings(config), indent=2) + "\n")
        except OSError as error:
            raise UserError(f"{config.folder}: cannot keep a run there: {error.strerror or error}") from error

    def is_best(self, score: float) -> bool:
        """Is this score greater than any before? If so, it is the one to beat from now on."""
        better = score > self.best.score
        self.best = Best(score, 0) if better else Best(self.best.score, self.best.fruitless + 1)
        return better

    def out_of_patience(self, patience: int | None) -> bool:
        """Have so many scores in a row not been the best?"""
        return patience is not None and self.best.fruitless >= patience

    def save(self, state: TrainState) -> None:
        """Begins to write; returns as soon as the state may be changed again.

        Raises UserError where this checkpoint, or the one before, cannot be written.
        """
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(vars(state)), best=ocp.args.JsonSave(self.best._asdict())
        )
        with self._writing():
            self.manager.save(int(state.step), args=items)

    def restore(self, like: TrainState) -> TrainState:
        """The newest state, in the shapes and places of `like`; `best` becomes what it was then.

        Raises UserError where it is of other names or shapes.
        """
        step = self.latest
        assert step is not None
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, vars(like))
        wanted, kept = _shapes(abstract), _shapes(self.manager.item_metadata(step)["state"])
        if wanted != kept:
            names = sorted(name for name in wanted.keys() | kept.keys() if wanted.get(name) != kept.get(name))
            raise UserError(
                f"the checkpoint of step {step} does not fit these settings: {', '.join(names[:5])}"
                + (" and others" if len(names) > 5 else "")
            )
        items = ocp.args.Composite(state=ocp.args.StandardRestore(abstract), best=ocp.args.JsonRestore())
        found = self.manager.restore(step, args=items)
        self.best = Best(**found["best"])
        return TrainState(**found["state"])

    @property
    def latest(self) -> int | None:
        return self.manager.latest_step()

    def __enter__(self) -> "Checkpoints":
        _ignore_writers_that_nobody_waits_for()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Waits for what is being written. Raises UserError where that fails."""
        with self._writing():
            self.manager.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # ValueError is TensorStore's
            raise UserError(
                f"{self.folder}: a checkpoint cannot be written: {_reason(error)}. "
                "Those before it are unharmed: make room there, and go on with --resume"
            ) from error


def _folder(config: Config) -> Path:
    return config.folder.absolute() / "checkpoints"


@functools.cache  # once a process
def _ignore_writers_that_nobody_waits_for() -> None:
    """Where an array cannot be written, the writers of others find that nobody waits for them: a traceback each.

    They may find so after the checkpoints are closed, so this is for good.
    """
    tell = sys.unraisablehook

    def tell_of_others(one: Any) -> None:
        if str(one.exc_value) != "Event loop is closed":
            tell(one)

    sys.unraisablehook = tell_of_others


def _reason(error: OSError | ValueError) -> str:
    """Of a write that failed; TensorStore gives the system's number for it, at the end of a long story."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    number = re.search(r"os_error_code='(\d+)'", str(error))
    return os.strerror(int(number[1])) if number else str(error)


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """By the names that Orbax gives."""
    leaves = jax.tree.leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): tuple(leaf.shape) for path, leaf in leaves}


def _settings(config: Config) -> dict:
    """The configuration as JSON would give it back."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


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
