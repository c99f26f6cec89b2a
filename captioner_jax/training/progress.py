"""What a run tells of itself while it goes on: lines on the terminal, metrics.jsonl, TensorBoard."""

import json
import math
import time
from pathlib import Path
from types import TracebackType

import jax
import numpy as np
import tensorboardX
from jax.typing import ArrayLike

from captioner_jax.errors import UserError
from captioner_jax.training.step import Metrics


class Progress:
    """Collects each step's metrics and tells of them now and then.

    The newest step's stay on the device, where that step may still be running, until a later one is begun; so telling
    of progress makes nothing wait.
    """

    def __init__(self, folder: Path, first: int, steps: int, batch_size: int):
        mode = "a" if first else "w"  # what failed before its first checkpoint is no part of this run
        self.json_lines = (folder / "metrics.jsonl").open(mode, encoding="utf-8", buffering=1)
        self.tensorboard = tensorboardX.SummaryWriter(str(folder / "tensorboard"))
        self.first, self.steps = first, steps
        self.batch_size = batch_size
        self.waiting: list[Metrics] = []
        self.unusable = 0
        self.step, self.timed_step, self.since = first, first, time.monotonic()

    def record(self, metrics: Metrics) -> None:
        """Takes note of one more step."""
        self.waiting.append(metrics)
        self.step += 1
        if self.step == self.first + 2:  # the first step has compiled
            self.restart_clock()

    def restart_clock(self) -> None:
        """Leaves what was done since the last line out of the rate."""
        self.timed_step, self.since = self.step, time.monotonic()

    def tell(self, learning_rate: ArrayLike) -> None:
        """A line about the steps since the last. Raises UserError where the loss of one is not finite."""
        told = self.check()
        if not told:
            return
        rate = (self.step - self.timed_step) / max(time.monotonic() - self.since, 1e-9)
        loss = sum(float(metrics.loss) for metrics in told) / len(told)
        norm = float(told[-1].gradient_norm)
        images = rate * self.batch_size
        lr = float(np.asarray(learning_rate))
        left = (self.steps - self.step) / rate if rate else math.inf
        besides = {name: sum(float(one.told[name]) for one in told) / len(told) for name in told[-1].told}
        shown = "".join(f"  {name} {value:.3f}" for name, value in besides.items())
        bad = f"  {self.unusable} damaged" if self.unusable else ""
        print(
            f"step {self.step:>6}/{self.steps}  loss {loss:.3f}{shown}  gradient {norm:.2f}  lr {lr:.1e}  "
            f"{rate:.1f} steps/s  {images:.0f} images/s  {_duration(left)} left{bad}",
            flush=True,
        )
        self.write({"loss": loss, "gradient_norm": norm, "learning_rate": lr, "steps_per_second": rate} | besides)

    def check(self) -> list[Metrics]:
        """The metrics of all steps but the newest, now on the host. Raises UserError where a loss is not finite."""
        ready, self.waiting = jax.device_get(self.waiting[:-1]), self.waiting[-1:]
        for number, metrics in enumerate(ready, self.step - len(ready)):
            self.unusable += int(metrics.unusable)
            if not math.isfinite(metrics.loss):
                raise UserError(
                    f"the loss of step {number} is {metrics.loss}: training stops. A lower --train.learning_rate, a "
                    "longer --train.warmup or a smaller --train.clip helps; the checkpoints before are unharmed."
                )
        return ready

    def write(self, values: dict[str, float]) -> None:
        """Numbers of the present step for metrics.jsonl and TensorBoard."""
        self.json_lines.write(json.dumps({"step": self.step, "time": round(time.time(), 1), **values}) + "\n")
        for name, value in values.items():
            self.tensorboard.add_scalar(name, value, self.step)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.json_lines.close()
        self.tensorboard.close()


def _duration(seconds: float) -> str:
    """0:05, 12:34, 3:00:00"""
    if not math.isfinite(seconds):
        return "?"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
