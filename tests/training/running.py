"""Runs of train.py as processes of their own, on pictures of one colour.

They are forked from a process that has imported everything and computed nothing, since imports take most of so short a
run.
"""

import functools
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import MappingProxyType

import jax
import numpy as np
import pytest

import train
from tests.data.making import colour_folder
from tests.test_programs import SMALL

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.training.running"])
STEPS = 60
# A line of progress for each step.
EVERY_STEP = ["--train.log-every", "1", "--train.evaluate-every", "1000", "--train.steps", str(STEPS)]


class Run:
    """One process of train.py."""

    def __init__(self, folder: Path, arguments: list[str], devices: int, environment: dict[str, str]):
        number = time.monotonic_ns()
        self.out, self.err = folder / f"{number}.out", folder / f"{number}.err"
        self.process: ForkServerProcess = FORKS.Process(
            target=_train, args=(arguments, devices, environment, folder / "cache", self.out, self.err)
        )
        self.process.start()

    def ended(self, timeout: float = 200) -> tuple[int | None, str, str]:
        """Exit code (of a signal: minus its number), and what was written, when it has come to its end."""
        self.process.join(timeout)
        if self.process.is_alive():
            self.kill()
            pytest.fail(f"still running after {timeout} s: {self.err.read_text()}")
        return self.process.exitcode, self.out.read_text(), self.err.read_text()

    def until(self, condition: Callable[[], bool]) -> None:
        """Waits while it runs."""
        while not condition():
            assert self.process.is_alive(), self.ended()
            time.sleep(0.005)

    def kill(self) -> None:
        """By SIGKILL, and waits until it is gone."""
        self.process.kill()
        self.process.join()


def _train(arguments: list[str], devices: int, environment: dict[str, str], cache: Path, out: Path, err: Path) -> None:
    """What a process does."""
    os.environ.update(environment)
    for stream, file in ((sys.stdout, out), (sys.stderr, err)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), stream.fileno())
    # That another is gone is seen in its connections or, where nothing is being sent, in this time; else 100 s.
    jax.distributed.initialize = functools.partial(jax.distributed.initialize, heartbeat_timeout_seconds=20)
    jax.config.update("jax_num_cpu_devices", devices)
    jax.config.update("jax_compilation_cache_dir", str(cache))
    sys.exit(train.main(arguments))


class Runs:
    """Of one configuration, in one folder; started, ended and looked at."""

    def __init__(self, folder: Path):
        data = ["--data.source", "folder", "--data.path", str(colour_folder(folder / "data", images=60))]
        self.folder = folder
        self.options = [*data, "--runs", str(folder), *SMALL, *EVERY_STEP]

    def start(
        self, name: str, *options: str, devices: int = 1, environment: Mapping[str, str] = MappingProxyType({})
    ) -> "Run":
        return Run(self.folder, ["--name", name, *self.options, *options], devices, dict(environment))

    def losses(self, name: str) -> dict[int, float]:
        """Of each step, as it was told last."""
        file = self.folder / name / "metrics.jsonl"
        lines = map(json.loads, file.read_text().splitlines()) if file.exists() else []
        return {line["step"]: line["loss"] for line in lines if "loss" in line}

    def checkpoints(self, name: str) -> set[int]:
        """The steps of those that are whole."""
        folder = self.folder / name / "checkpoints"
        return {int(path.name) for path in folder.iterdir() if path.name.isdigit()} if folder.exists() else set()

    def is_saving(self, name: str) -> bool:
        """Is there a checkpoint that is not whole?"""
        return any((self.folder / name / "checkpoints").glob("*.orbax-checkpoint-tmp"))


def bit_for_bit(found: dict[int, float], expected: dict[int, float]) -> None:
    """Of the steps that were told of; the first after a resumption is not."""
    assert found.items() <= expected.items()
    assert found[STEPS] == expected[STEPS]


def near(found: dict[int, float], expected: dict[int, float]) -> None:
    """Of sums in another order, whose differences grow with each step. A run that was resumed may lack lines."""
    assert STEPS in found
    for step, loss in found.items():
        close = {"rtol": 1e-4} if step <= 10 else {"rtol": 0.05, "atol": 0.02}
        np.testing.assert_allclose(loss, expected[step], **close)
