"""Checkpoints of a run, by Orbax: written in the background, whole or not at all, the newest few kept."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import logging
import os
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from types import TracebackType
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from etils import epath

from captioner_jax.config import Config, Resumption, from_dict
from captioner_jax.errors import UserError
from captioner_jax.text.tokenizer import Tokenizer
from captioner_jax.training import archive, hosts, storage
from captioner_jax.training.step import TrainState

CHECKPOINTS, SETTINGS, DATA = "checkpoints", "config.json", "data.sha256"
# May differ between a run and its resumption: they change what is shown or kept, or where it is computed.
FREE_TO_CHANGE = (
    *("runs", "devices", "data.path", "data.data_dir", "data.workers"),
    *("train.log_every", "train.profile"),
    *("evaluation.examples", "evaluation.batch_size", "evaluation.beams"),
    *("train.checkpoint_every", "train.checkpoints", "train.keep_checkpoints", "train.keep_every"),
)


def check_run(config: Config, how: Resumption) -> None:
    """Raises UserError where there is a run already and no resumption is asked for, or the other way round.

    Also where the run was begun with other settings, unless that is allowed; then it tells of them; and where
    checkpoints cannot be kept as is asked for; and OutageError where their bucket cannot be reached. Writes nothing.
    """
    name = Path(config.name)
    if not config.name.strip() or not name.parts or name.anchor or ".." in name.parts:
        raise UserError(f"name: {config.name!r} is no folder within {config.runs}")
    storage.check(config)
    home = storage.home(config)
    try:
        with storage.reaching(home):
            steps = _steps(home)
        if not steps and (others := _steps(epath.Path(config.folder))):
            raise UserError(
                f"{config.folder} holds a run up to step {max(others)}, and {home} none: "
                f"copy {CHECKPOINTS} and {SETTINGS} there, or choose another --name"
            )
        if steps and not (how.resume or how.begin_or_resume):
            raise UserError(
                f"{home} holds a run up to step {max(steps)}: go on with it by --resume, "
                "or choose another --name for this one"
            )
        if how.resume and not steps:
            raise UserError(f"{home} has no checkpoint to resume from")
        if not steps:
            return
        with storage.reaching(home):
            begun = json.loads((home / SETTINGS).read_text())
        begun = as_json(from_dict(begun, str(home / SETTINGS)))  # settings that are new since: by default
    except (OSError, ValueError) as error:
        raise UserError(f"{home}: cannot read the run there: {error}") from error
    changes = differences(begun, as_json(config))
    told = "\n".join([f"{home} was begun with other settings:", *changes])
    if changes and not how.allow_changes:
        raise UserError(f"{told}\n--allow-changes goes on with those of now")
    if changes:
        print(told)
    if max(steps) > config.train.steps:
        print(f"{home} has come to step {max(steps)}, past train.steps {config.train.steps}: it is only scored")


class Best(NamedTuple):
    """The greatest score so far, how many have been counted since that were not greater, and of what it is a score."""

    score: float
    fruitless: int
    of: str | None = None
    is_due: bool = False
    """The captioner of this checkpoint is still to be scored."""


class _Manager(ocp.CheckpointManager):
    """Leaves preemption to `training.preemption`, which counts otherwise than by steps: two counts would miss it."""

    def reached_preemption(self, step: int) -> bool:
        return False


class Checkpoints:
    """The checkpoints of a run, with the configuration that they belong to.

    Where they are not in the run's folder, each holds besides what that folder holds, so that nothing else is needed.
    """

    def __init__(self, config: Config):
        """Makes the folders if need be. Raises UserError where nothing can be written there, for now or ever."""
        logging.getLogger("absl").setLevel(logging.CRITICAL)  # Orbax tells of every step; of what fails, we do
        self.home, self.folder = storage.home(config), config.folder
        self.is_elsewhere = storage.is_elsewhere(config)
        self.best = Best(float("-inf"), 0, f"{config.evaluation.best} of {config.evaluation.images}")
        with _room_for_a_run(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        with _room_for_a_run(self.home), storage.reaching(self.home):
            checkpoints = storage.absolute(self.home) / CHECKPOINTS  # as Orbax wants it
            checkpoints.mkdir(parents=True, exist_ok=True)
            options = ocp.CheckpointManagerOptions(
                max_to_keep=config.train.keep_checkpoints,
                keep_period=config.train.keep_every,
                cleanup_tmp_directories=True,
            )
            arrays, text = ocp.StandardCheckpointHandler, ocp.JsonCheckpointHandler
            handlers = {"state": arrays(), "best": text(), "folder": arrays()}
            self.manager = _Manager(checkpoints, options=options, item_handlers=handlers)
        self.notes: dict[str, str] = {}
        self._note(SETTINGS, json.dumps(as_json(config), indent=2) + "\n")

    def check_data(self, mark: str, *, may_differ: bool) -> None:
        """Remembers what is trained on, by its mark. Raises UserError where the run was begun on something else.

        Other captions may have other words in the same places of the vocabulary, and others of the images for training.
        """
        file = self.home / DATA
        with storage.reaching(self.home):
            is_known = self.latest is not None and file.exists()
            before = file.read_bytes().decode(errors="replace").strip() if is_known else mark
        if before != mark and not may_differ:
            raise UserError(
                f"{self.home} was begun on other data: the training captions or their vocabulary have changed since. "
                "Bring those back, or choose another --name; --allow-changes goes on with those of now"
            )
        self._note(DATA, mark + "\n")

    def is_best(self, score: float) -> bool:
        """Is this score greater than any before? If so, it is the one to beat from now on."""
        better = score > self.best.score
        score, fruitless = (score, 0) if better else (self.best.score, self.best.fruitless + 1)
        self.best = self.best._replace(score=score, fruitless=fruitless)
        return better

    def out_of_patience(self, patience: int | None) -> bool:
        """Have so many scores in a row not been the best?"""
        return patience is not None and self.best.fruitless >= patience

    def save(self, state: TrainState, *, is_due: bool = False) -> None:
        """Begins to write; returns as soon as the state may be changed again. `is_due`: it is still to be scored.

        Raises UserError where this checkpoint, or the one before, cannot be written; OutageError, if it could be later.
        """
        self.best = self.best._replace(is_due=is_due)
        items = {"state": ocp.args.StandardSave(vars(state)), "best": ocp.args.JsonSave(self.best._asdict())}
        if self.is_elsewhere:
            items["folder"] = ocp.args.StandardSave({"tar": archive.packed(self.folder)})
        with self._writing():
            self.manager.save(int(state.step), args=ocp.args.Composite(**items))

    def restore(self, shapes: dict[str, Any]) -> TrainState:
        """The newest state, of the `shapes_of` one; `best`, and what else it holds, become as they were.

        Raises UserError where it is of other names or shapes, or damaged.
        """
        step = self.latest
        assert step is not None
        with self._reading(step):
            held = self.manager.item_metadata(step)
            kept = _sizes(held["state"])
        wanted = _sizes(shapes)
        if wanted != kept:
            names = sorted(name for name in wanted.keys() | kept.keys() if wanted.get(name) != kept.get(name))
            raise UserError(
                f"the checkpoint of step {step} does not fit these settings: {', '.join(names[:5])}"
                + (" and others" if len(names) > 5 else "")
            )
        items = {"state": ocp.args.StandardRestore(shapes), "best": ocp.args.JsonRestore()}
        if "folder" in held:
            items["folder"] = ocp.args.StandardRestore()
        with self._reading(step):
            found = self.manager.restore(step, args=ocp.args.Composite(**items))
            best = Best(**found["best"])
        if "folder" in items and hosts.is_first():
            archive.unpack(found["folder"]["tar"], self.folder)
        if best.of in (self.best.of, None):  # scores of another kind say nothing here
            self.best = best._replace(of=self.best.of)
        self.best = self.best._replace(is_due=best.is_due)
        self._write_notes()
        return TrainState(**found["state"])

    def _note(self, name: str, text: str) -> None:
        """To be kept beside the checkpoints: from the beginning, or once the newest of those there was restored."""
        self.notes[name] = text
        if self.latest is None:
            self._write_notes()

    def _write_notes(self) -> None:
        if hosts.is_first():
            with _room_for_a_run(self.home), storage.reaching(self.home):
                for name, text in self.notes.items():
                    storage.write(self.home / name, text)

    @contextlib.contextmanager
    def _reading(self, step: int) -> Iterator[None]:
        """Raises UserError where the checkpoint of this step is damaged, for which there are many errors."""
        try:
            with storage.reaching(self.home):
                yield
        except (OSError, ValueError, KeyError, TypeError) as error:
            place, why = self.home / CHECKPOINTS / str(step), textwrap.shorten(_reason(error), 200)
            if _is_refused(error):
                raise UserError(f"{place} cannot be read: {why}") from error
            others = [other for other in self.manager.all_steps() if other != step]
            then = f"--resume goes on from step {max(others)}" if others else "begin anew, as there is no other"
            raise UserError(f"{place} is damaged ({why}): move it away, and {then}") from error

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
            with storage.reaching(self.home):
                yield
        except (OSError, ValueError) as error:  # ValueError is TensorStore's
            remedy = "see to the bucket" if storage.in_bucket(self.home) else "make room there"
            others = "There is none before it" if self.latest is None else "Those before it are unharmed"
            again = "begin anew" if self.latest is None else "go on with --resume"
            raise UserError(
                f"{self.home}: a checkpoint cannot be written: {_reason(error)}. {others}: {remedy}, and {again}"
            ) from error


def _steps(home: epath.Path) -> list[int]:
    """Of the checkpoints there."""
    folder = home / CHECKPOINTS
    return ocp.utils.checkpoint_steps(folder) if folder.is_dir() else []


@contextlib.contextmanager
def _room_for_a_run(place: PurePath) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{place}: cannot keep a run there: {error.strerror or error}") from error


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


def _is_refused(error: Exception) -> bool:
    """Is it the system that does not give what is there, and may be whole?"""
    is_systems = isinstance(error, OSError) and not isinstance(error, FileNotFoundError)
    return is_systems or "os_error_code" in str(error)


def _reason(error: Exception) -> str:
    """Why a checkpoint cannot be written or read; TensorStore gives the system's number for it, at the end of a long
    story."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    number = re.search(r"os_error_code='(\d+)'", str(error))
    return os.strerror(int(number[1])) if number else str(error)


def shapes_of(state: TrainState) -> dict[str, Any]:
    """The shapes of its parts, and where they lie, without their numbers."""
    return jax.tree.map(ocp.utils.to_shape_dtype_struct, vars(state))


def _sizes(tree: Any) -> dict[str, tuple[int, ...]]:
    """By the names that Orbax gives."""
    leaves = jax.tree.leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): tuple(leaf.shape) for path, leaf in leaves}


def mark_of(captions: Sequence[Sequence[str]], tokenizer: Tokenizer) -> str:
    """Of what is trained on: other captions, or other words, have another."""
    return hashlib.sha256(json.dumps([captions, tokenizer.to_json()]).encode()).hexdigest()


def as_json(config: Config) -> dict[str, Any]:
    """The configuration as JSON would give it back."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def differences(old: dict, new: dict, prefix: str = "") -> list[str]:
    """The settings that differ, in words, without those that are free to."""
    return [f"  {name}: {was!r} then, {now!r} now" for name, was, now in differing(old, new, FREE_TO_CHANGE, prefix)]


def differing(
    old: dict[str, Any], new: dict[str, Any], free: Sequence[str], prefix: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Name, old and new value of each setting that differs, without those that are free to."""
    for key in sorted(old.keys() | new.keys()):
        name, was, now = prefix + key, old.get(key), new.get(key)
        if name in free:
            continue
        if isinstance(was, dict) and isinstance(now, dict):
            yield from differing(was, now, free, name + ".")
        elif was != now:
            yield name, was, now
