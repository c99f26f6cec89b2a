"""TensorBoard's event files, written at once.

tensorboardX's own SummaryWriter leaves writing to a thread; where that ends, as a disk is full, the program never does.
"""

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from tensorboardX import summary
from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
from tensorboardX.record_writer import RecordWriter

from captioner_jax.errors import UserError

FORMAT = "brain.Event:2"


@contextlib.contextmanager
def writing(place: Path) -> Iterator[None]:
    """What a run tells. Raises UserError where it cannot be written."""
    try:
        yield
    except OSError as error:
        remedy = "Make room there, and go on with --resume."
        raise UserError(f"{place}: cannot be written: {error.strerror or error}. {remedy}") from error


class Events:
    """A new file of events in a folder. Raises UserError where it cannot be written."""

    def __init__(self, folder: Path, first: int):
        """Events of steps after `first`, in files that are there already, are to be forgotten."""
        self._folder = folder
        now = time.time()
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = RecordWriter(str(folder / f"events.out.tfevents.{now:.0f}.{socket.gethostname()}"))
        self._write([Event(wall_time=now, file_version=FORMAT)])
        if first:
            self._write([Event(wall_time=now, step=first + 1, session_log=SessionLog(status=SessionLog.START))])

    def add_numbers(self, values: dict[str, float], step: int) -> None:
        """Curves, by name."""
        self._add([summary.scalar(name, value) for name, value in values.items()], step)

    def add_exhibit(self, name: str, pixels: UInt8[np.ndarray, "Y X 3"], text: str, step: int) -> None:
        """A picture, and what is said of it."""
        self._add([summary.image(name, pixels, dataformats="HWC"), summary.text(name, text)], step)

    def _add(self, summaries: list[Any], step: int) -> None:
        self._write([Event(wall_time=time.time(), step=step, summary=one) for one in summaries])

    def _write(self, events: list[Event]) -> None:
        with writing(self._folder):
            for event in events:
                self._file.write(event.SerializeToString())
            self._file.flush()

    def close(self) -> None:
        """Nothing is left to write, but where that has failed and was told."""
        with contextlib.suppress(OSError):
            self._file.close()
