"""What a run tells of itself while it goes on: lines on the terminal, metrics.jsonl, TensorBoard."""

import contextlib
import json
import math
import os
import time
from collections.abc import Hashable, Iterator
from pathlib import Path
from types import TracebackType

import jax
import numpy as np
from jax.typing import ArrayLike

from captioner_jax.data.pipeline import Batch
from captioner_jax.errors import UserError
from captioner_jax.files import write_whole
from captioner_jax.training.clock import Clock
from captioner_jax.training.events import Events, writing
from captioner_jax.training.gallery import Exhibit
from captioner_jax.training.step import Metrics

ADVICE = (
    "A lower --train.learning-rate, a longer --train.warmup or a smaller --train.clip helps; "
    "the checkpoints before are unharmed."
)
# Bad batches in a row that are no accident any more, and such of which no image can be used.
TOO_MANY = 10
# A run is input-bound if it waits for this share of the time; said when so many steps have shown it.
MUCH, ENOUGH = 0.5, 20
INPUT_BOUND = (
    "input-bound: {:.0%} of the time the next batch is waited for. More --data.workers decode more at once, "
    "--data.cache FOLDER keeps decoded images, and --data.features FOLDER what a frozen encoder makes of them."
)


class Progress:
    """Collects each step's metrics and tells of them now and then.

    The newest step's stay on the device, where that step may still be running, until a later one is begun; so telling
    of progress makes nothing wait.
    """

    def __init__(
        self,
        folder: Path,
        first: int,
        steps: int,
        batch_size: int,
        *,
        skips: bool = False,
        writes: bool = True,
        is_due: bool = False,
    ):
        """`skips`: bad batches were skipped and do not stop the run. Of hosts that train together one `writes`.

        What was told of steps after `first`, which come again, is no part of this run; nor are the scores of step
        `first`, where `is_due` says that they are still to come.
        """
        file = folder / "metrics.jsonl" if writes else Path(os.devnull)
        if writes:
            _forget(folder, first, is_due)
        self.json_lines = file.open("a", encoding="utf-8", buffering=1)
        self.tensorboard = Events(folder / "tensorboard", first) if writes else None
        self.first, self.steps = first, steps
        self.batch_size = batch_size
        self.skips = skips
        self.waiting: list[Metrics] = []
        self.checked: list[Metrics] = []
        self.unusable = self.bad_in_a_row = self.empty_in_a_row = 0
        self.step, self.clock = first, Clock()
        self.programs: set[Hashable] = set()
        self.rate = 0.0
        """In steps/s, as it was told last; of use where a new program has compiled just now."""
        self.said_input_bound = False

    def record(self, metrics: Metrics, program: Hashable = None) -> None:
        """Takes note of one more step, by which program; the first step of each has compiled, which no rate counts."""
        self.waiting.append(metrics)
        self.step += 1
        self.clock.steps += 1
        if program not in self.programs:
            self.programs.add(program)
            self.restart_clock()

    def restart_clock(self) -> None:
        """Begins anew to count steps and time: what was done besides steps is to be in no rate."""
        self.clock.restart()

    def awaited(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The same batches; how long the device has nothing to do until they come is told of."""
        return self.clock.awaited(batches, self._is_idle)

    def _is_idle(self) -> bool:
        """Has the device finished the newest step?"""
        return not self.waiting or self.waiting[-1].loss.is_ready()  # pyright: ignore[reportAttributeAccessIssue]

    def tell(self, learning_rate: ArrayLike) -> None:
        """A line about the steps since the last. Raises UserError where one was bad, or too many that were skipped."""
        self.check()
        told, self.checked = [one for one in self.checked if not one.bad], []
        if not told:
            return
        if self.clock.steps:
            self.rate = self.clock.steps_per_second
        rate, wait = self.rate, self.clock.input_wait
        loss = sum(float(metrics.loss) for metrics in told) / len(told)
        norm = float(told[-1].gradient_norm)
        images = rate * self.batch_size
        lr = float(np.asarray(learning_rate))
        left = (self.steps - self.step) / rate if rate else math.inf
        besides = {name: sum(float(one.told[name]) for one in told) / len(told) for name in told[-1].told}
        shown = "".join(f"  {name} {value:.3f}" for name, value in besides.items())
        bad = f"  damaged images met {self.unusable} times" if self.unusable else ""
        print(
            f"step {self.step:>6}/{self.steps}  loss {loss:.3f}{shown}  gradient {norm:.2f}  lr {lr:.1e}  "
            f"{rate:.1f} steps/s  {images:.0f} images/s  {_duration(left)} left{bad}",
            flush=True,
        )
        if wait > MUCH and self.clock.steps >= ENOUGH and not self.said_input_bound:
            self.said_input_bound = True
            print(INPUT_BOUND.format(wait), flush=True)
        values = {"loss": loss, "gradient_norm": norm, "learning_rate": lr}
        speed = {"steps_per_second": rate, "seconds_per_step": 1 / rate, "input_wait": wait} if rate else {}
        norms = {f"gradient_norm/{group}": float(of) for group, of in told[-1].norms.items()}
        self.write(values | speed | norms | device_memory() | besides)

    def check(self, *, newest: bool = False) -> None:
        """Fetches the metrics of all steps but the newest, or of that too. Raises UserError as `tell` does, and where
        batches have no image of use any more, as a disk has gone."""
        end = len(self.waiting) - (not newest)
        ready, self.waiting = jax.device_get(self.waiting[:end]), self.waiting[end:]
        for number, metrics in enumerate(ready, self.step - len(self.waiting) - len(ready) + 1):
            self.unusable += int(metrics.unusable)
            self.bad_in_a_row = self.bad_in_a_row + 1 if metrics.bad else 0
            self.empty_in_a_row = self.empty_in_a_row + 1 if metrics.unusable == self.batch_size else 0
            if metrics.bad:
                self._bad(f"step {number}: loss {metrics.loss:.3g}, gradient {metrics.gradient_norm:.3g}")
            if self.empty_in_a_row == TOO_MANY:
                raise UserError(
                    f"step {number}: in {TOO_MANY} batches in a row no image could be used: training stops. See "
                    "whether the images are still there, and go on with --resume."
                )
        self.checked += ready

    def _bad(self, what: str) -> None:
        if not self.skips:
            raise UserError(f"{what}: training stops. {ADVICE} --train.bad-batches skip goes on without such batches.")
        if self.bad_in_a_row == TOO_MANY:
            raise UserError(f"{what}: the {TOO_MANY}th bad batch in a row: training stops. {ADVICE}")
        print(f"{what}: this batch is skipped", flush=True)

    def write(self, values: dict[str, float]) -> None:
        """Numbers of the present step for metrics.jsonl and TensorBoard."""
        with writing(Path(self.json_lines.name)):
            self.json_lines.write(json.dumps({"step": self.step, "time": round(time.time(), 1), **values}) + "\n")
        if self.tensorboard is not None:
            self.tensorboard.add_numbers(values, self.step)

    def hang(self, gallery: dict[str, Exhibit]) -> None:
        """Pictures and captions of the present step for TensorBoard."""
        for name, exhibit in gallery.items():
            if self.tensorboard is not None:
                self.tensorboard.add_exhibit(name, exhibit.pixels, exhibit.text, self.step)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with contextlib.suppress(OSError):  # which was told when it was written
            self.json_lines.close()
        if self.tensorboard is not None:
            self.tensorboard.close()


def device_memory() -> dict[str, float]:
    """GiB in use on this host's first device, now and at the most; nothing where nobody tells, as on a CPU."""
    told = jax.local_devices()[0].memory_stats() or {}
    names = {"bytes_in_use": "device_memory_gib/now", "peak_bytes_in_use": "device_memory_gib/most"}
    return {name: told[key] / 2**30 for key, name in names.items() if key in told}


def _forget(folder: Path, first: int, is_due: bool) -> None:
    """Leaves of metrics.jsonl the whole lines up to step `first`, without that step's scores where these are due; of a
    run from its beginning nothing, nor events.

    TensorBoard itself forgets the events of later steps, by the step that its next file purges from.
    """
    file = folder / "metrics.jsonl"
    if first and file.exists():
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        write_whole(file, "".join(line for line in lines if _is_told(line, first, is_due)))
    elif not first:
        for told in (file, *(folder / "tensorboard").glob("events.out.tfevents.*")):
            told.unlink(missing_ok=True)


def _is_told(line: str, first: int, is_due: bool) -> bool:
    """Is this a whole line of metrics.jsonl, of a step up to `first`, whose scores may come again?"""
    try:
        told = json.loads(line)
        comes_again = is_due and told["step"] == first and "loss" not in told
        return line.endswith("\n") and told["step"] <= first and not comes_again
    except (ValueError, KeyError, TypeError):  # cut short as the run was killed
        return False


def _duration(seconds: float) -> str:
    """0:05, 12:34, 3:00:00"""
    if not math.isfinite(seconds):
        return "?"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
