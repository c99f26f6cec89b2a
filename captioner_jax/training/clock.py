"""How fast steps go, and how much of the time goes to waiting for their batches."""

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


class Clock:
    """Counts steps and seconds since it was started last."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forgets what was."""
        self.steps, self.waited, self.since = 0, 0.0, time.monotonic()

    def awaited(self, batches: Iterator[Item], is_idle: Callable[[], bool]) -> Iterator[Item]:
        """The same batches, with waits for them counted, unless the device was still at work at their end."""
        start = time.monotonic()
        for batch in batches:
            if is_idle():
                self.waited += time.monotonic() - start
            yield batch
            start = time.monotonic()

    @property
    def steps_per_second(self) -> float:
        """Zero before the first step."""
        return self.steps / self._seconds

    @property
    def input_wait(self) -> float:
        """The share of the time that was waited for batches, between 0 and 1."""
        return self.waited / self._seconds

    @property
    def _seconds(self) -> float:
        return max(time.monotonic() - self.since, 1e-9)
