"""Making room when asked to: clouds and queues send SIGTERM some time before they take a machine away.

A terminal that goes away (SIGHUP) asks for the same.
"""

import contextlib
import os
import signal
import stat
import sys
from collections.abc import Iterator
from types import FrameType, TracebackType

import jax
from jax.experimental import multihost_utils

from captioner_jax.errors import RESTART


@contextlib.contextmanager
def start_again_if_terminated() -> Iterator[None]:
    """A SIGTERM outside of training's steps, where there is nothing to be saved, ends the program with RESTART."""

    def end(number: int, frame: FrameType | None) -> None:
        print("a SIGTERM has ended the run, which has nothing new to save: start it again", file=sys.stderr)
        sys.exit(RESTART)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def terminated_by_hanging_up() -> Iterator[None]:
    """A terminal that goes away does what a SIGTERM does, except where nohup has it ignored."""
    heeds = signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
    before = signal.signal(signal.SIGHUP, _hang_up) if heeds else None
    try:
        yield
    finally:
        if heeds:
            signal.signal(signal.SIGHUP, before)


def _hang_up(number: int, frame: FrameType | None) -> None:
    """The terminal, or what it read through, takes no more words: they would be errors. A file does."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        with contextlib.suppress(OSError):  # closed
            if not stat.S_ISREG(os.fstat(stream).st_mode):
                os.dup2(nowhere, stream)
    os.close(nowhere)
    os.kill(os.getpid(), signal.SIGTERM)


class PreemptedError(Exception):
    """What was going on is left where it is, since the run is to stop."""


class Preemption:
    """Whether this run is to stop: looked at between steps, so that none is cut short, and between batches scored."""

    def __init__(self) -> None:
        self.is_asked, self.times = False, 0

    def asked(self) -> bool:
        """Has a SIGTERM come? Where there are several hosts, to any of them: all are told the same the n-th time."""
        if jax.process_count() > 1 and not self.is_asked:
            self.times += 1
            self.is_asked = multihost_utils.reached_preemption_sync_point(self.times)
        return self.is_asked

    def check(self) -> None:
        """Raises PreemptedError if so."""
        if self.asked():
            raise PreemptedError

    def __enter__(self) -> "Preemption":
        if jax.process_count() == 1:  # otherwise JAX listens, on all hosts
            self.before = signal.signal(signal.SIGTERM, self._ask)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if jax.process_count() == 1:
            signal.signal(signal.SIGTERM, self.before)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.is_asked = True
