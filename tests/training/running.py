"""Runs of train.py as programs of their own, on pictures of one colour."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.data.making import colour_folder
from tests.test_programs import SMALL

ROOT = Path(__file__).parents[2]
STEPS = 60
# A line of progress for each step.
EVERY_STEP = ["--train.log-every", "1", "--train.evaluate-every", "1000", "--train.steps", str(STEPS)]


class Runs:
    """Of one configuration, in one folder; started, ended and looked at."""

    def __init__(self, folder: Path):
        data = ["--data.source", "folder", "--data.path", str(colour_folder(folder / "data", images=60))]
        self.folder = folder
        self.options = [*data, "--runs", str(folder), *SMALL, *EVERY_STEP]

    def start(self, name: str, *options: str, devices: int = 1) -> subprocess.Popen[str]:
        environment = os.environ | {
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
            "JAX_COMPILATION_CACHE_DIR": str(self.folder / "cache"),
        }
        program = [sys.executable, str(ROOT / "train.py"), "--name", name, *self.options, *options]
        return subprocess.Popen(
            program, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.folder
        )

    def losses(self, name: str) -> dict[int, float]:
        """Of each step, as it was told last."""
        file = self.folder / name / "metrics.jsonl"
        lines = map(json.loads, file.read_text().splitlines()) if file.exists() else []
        return {line["step"]: line["loss"] for line in lines if "loss" in line}

    def checkpoints(self, name: str) -> set[int]:
        """The steps of those that are whole."""
        folder = self.folder / name / "checkpoints"
        return {int(path.name) for path in folder.iterdir() if path.name.isdigit()} if folder.exists() else set()


def ended(process: subprocess.Popen[str], timeout: float = 200) -> tuple[int, str, str]:
    """Exit code, and what was written, when it has come to its end."""
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


def near(found: dict[int, float], expected: dict[int, float]) -> None:
    """Of sums in another order, whose differences grow with each step. A run that was resumed may lack lines."""
    assert STEPS in found
    for step, loss in found.items():
        close = {"rtol": 1e-4} if step <= 10 else {"rtol": 0.05, "atol": 0.02}
        np.testing.assert_allclose(loss, expected[step], **close)
