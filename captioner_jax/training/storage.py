"""Where a run keeps what it goes on from: in its own folder; or in another, or a bucket, that outlives its disk."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from etils import epath

from captioner_jax.bundle import CARD
from captioner_jax.config import Config
from captioner_jax.errors import OutageError, UserError
from captioner_jax.files import write_whole

_BUCKET = re.compile(r"gs://[^/]+(/.*)?")


def home(config: Config) -> epath.Path:
    """The run's folder, or its place within `train.checkpoints`."""
    return epath.Path(config.train.checkpoints or config.runs) / config.name


def is_elsewhere(config: Config) -> bool:
    """Is that another place than the run's folder?"""
    return str(home(config)) != str(config.folder)


def in_bucket(path: epath.Path) -> bool:
    return str(path).startswith("gs://")


def absolute(path: epath.Path) -> epath.Path:
    """From the root of the disk, or as it is in a bucket."""
    return path if in_bucket(path) else path.absolute()


def write(path: epath.Path, text: str) -> None:
    """A text file, whole or not at all, as what is written to a bucket is by itself."""
    if in_bucket(path):
        path.write_text(text)
    else:
        write_whole(Path(path), text)


@contextlib.contextmanager
def reaching(place: epath.Path) -> Iterator[None]:
    """Raises OutageError where it is in a bucket that cannot be reached any more, or for now."""
    try:
        yield
    except Exception as error:
        if not in_bucket(place):
            raise
        from captioner_jax.training import bucket

        if not bucket.is_outage(error):
            raise
        raise OutageError(
            f"{place} cannot be reached: {error}. The checkpoints there are unharmed: go on later with --resume"
        ) from error


def copy_captioner(config: Config) -> None:
    """To where the checkpoints are, for whoever has no access to this disk. Its card comes last, when all is there."""
    target = home(config) / "captioner"
    with reaching(target):
        target.mkdir(parents=True, exist_ok=True)
        for file in sorted((config.folder / "captioner").iterdir(), key=lambda file: file.name == CARD):
            (target / file.name).write_bytes(file.read_bytes())


def check(config: Config) -> None:
    """Raises UserError where `runs` is no folder of a disk, or a bucket is named that cannot be used.

    OutageError, if later it may be.
    """
    if "://" in config.runs:
        raise UserError(
            f"runs: {config.runs} is no folder of a disk, which a run needs; what it goes on from can be in a bucket: "
            "--train.checkpoints gs://BUCKET/FOLDER"
        )
    place = config.train.checkpoints
    if place is None or "://" not in place:
        return
    if not _BUCKET.fullmatch(place):
        raise UserError(f"train.checkpoints: {place}: wanted is a folder or gs://BUCKET/FOLDER")
    try:
        from captioner_jax.training import bucket
    except ImportError as error:
        raise UserError("train.checkpoints: gs:// needs pip install 'captioner-jax[gcs]'") from error
    bucket.check(place.split("/")[2])
