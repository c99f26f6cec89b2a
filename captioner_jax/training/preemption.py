"""Making room when asked to: clouds and queues send SIGTERM some time before they take a machine away."""

import contextlib
import signal
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


class Preemption:
    """Whether this run is to stop: looked at between steps, so that none is cut short."""

    def __init__(self) -> None:
        self.is_asked = False

    def asked(self, step: int) -> bool:
        """Has a SIGTERM come? Where there are several hosts, to any of them, and all are told after the same step."""
        if jax.process_count() > 1:
            return multihost_utils.reached_preemption_sync_point(step)
        return self.is_asked

    def __enter__(self) -> "Preemption":
        if jax.process_count() == 1:  # otherwise JAX listens, on all hosts
            self.before = signal.signal(signal.SIGTERM, self._ask)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if jax.process_count() == 1:
            signal.signal(signal.SIGTERM, self.before)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.is_asked = True
