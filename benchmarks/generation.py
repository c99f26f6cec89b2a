"""How fast captions are written here and by what one would take instead: PyTorch with a hand-written cache, eager and
compiled; Hugging Face's `generate`; torchvision's ResNet-50 and onnxruntime for the encoder.

    python benchmarks/generation.py --others /path/to/python/with/torch --rounds 7

`--others` is a Python that has torch, torchvision, transformers, onnxruntime and onnx; what it lacks is left out.
Random weights, equal shapes (contenders/serving.py), as many threads as there are cores. Each contender is a process of
its own; all do a task in turn, round after round. Told are the median and the best of the rounds, how many times ours
the others' best is (whatever else runs on a machine only ever adds to a time), and the least processor time, which a
busy machine disturbs least.

Measure on a machine with nothing else to do, with `OMP_WAIT_POLICY` unset. `passive` is for machines shared with other
jobs alone: PyTorch's threads then sleep between operations, which on free cores makes small ones half as fast.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from contenders.serving import TOKENS, Task

HERE = Path(__file__).parent / "contenders"
OURS, EAGER, COMPILED = "captioner_jax", "PyTorch by hand", "the same, compiled"


class Contender:
    """A process that does tasks when asked."""

    def __init__(self, python: str, *command: str):
        threads = str(len(os.sched_getaffinity(0)))
        environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        self.process = subprocess.Popen(
            [python, str(HERE / command[0]), *command[1:]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        self.versions = self.answer()

    def answer(self):
        """Its next line; None if it has ended."""
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def do(self, task: Task) -> "Time":
        self.process.stdin.write(json.dumps(task) + "\n")
        self.process.stdin.flush()
        return Time(*self.answer())

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait()


class Time(NamedTuple):
    """Seconds by the clock and of all cores, and the most memory the process has had, in MiB."""

    seconds: float
    cpu: float
    memory: float


def compare(title: str, contenders: dict[str, Contender], tasks: list[Task], rounds: int, unit: str, each: int) -> None:
    """Tells how long each takes for each task, and how many units (`each` an image) that is a second."""
    print(f"\n{title}\n{'':34}{'median':>9}{'best':>9}{unit + '/s':>12}{'CPU s':>8}{'times ours':>12}{'MiB':>7}")
    for task in tasks:
        for contender in contenders.values():
            contender.do(task)
        times = [[contender.do(task) for contender in contenders.values()] for _ in range(rounds)]
        ours = min(row[0].seconds for row in times)
        for name, of in zip(contenders, zip(*times, strict=True), strict=True):
            best = min(time.seconds for time in of)
            median = statistics.median(time.seconds for time in of)
            cpu = min(time.cpu for time in of)
            what = f"{task.images} x, beam {task.beams}" if task.part == "decode" else f"{task.images} x"
            print(
                f"{what:14}{name:20}{median * 1e3:6.0f} ms{best * 1e3:6.0f} ms{task.images * each / best:12.1f}"
                f"{cpu:8.2f}{best / ours:12.2f}{of[-1].memory:7.0f}",
                flush=True,
            )


def among(ways: dict[str, tuple[str, ...]]) -> dict[str, Contender]:
    """Those that can be started."""
    started = {name: Contender(*command) for name, command in ways.items()}
    for name, contender in started.items():
        print(f"{name}: {contender.versions or 'is not installed, left out'}", flush=True)
    return {name: contender for name, contender in started.items() if contender.versions}


def main() -> None:
    parser = argparse.ArgumentParser(description="Times of captioning, here and elsewhere.")
    parser.add_argument("--others", default=sys.executable, help="a Python that has torch and the others")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--part", choices=["encode", "decode"], help="this part alone")
    asked = parser.parse_args()
    here, there = sys.executable, asked.others
    if asked.part != "encode":
        contenders = among(
            {
                OURS: (here, "ours.py", "float32"),
                EAGER: (there, "by_hand.py", "eager", "float32"),
                COMPILED: (there, "by_hand.py", "compiled", "float32"),
                "Hugging Face": (there, "hugging_face.py"),
            }
        )
        tasks = [Task("decode", images, beams) for images in (1, 16) for beams in (1, 5)]
        compare(f"Captions of {TOKENS} tokens", contenders, tasks, asked.rounds, "tokens", TOKENS)
        for contender in contenders.values():
            contender.end()
    if asked.part != "decode":
        contenders = among(
            {
                OURS: (here, "ours.py", "float32"),
                "eager": (there, "by_hand.py", "eager", "float32"),
                "compiled": (there, "by_hand.py", "compiled", "float32"),
                "onnxruntime": (there, "onnx_runtime.py"),
                "captioner_jax, bf16": (here, "ours.py", "bfloat16"),
                "eager, bf16": (there, "by_hand.py", "eager", "bfloat16"),
                "compiled, bf16": (there, "by_hand.py", "compiled", "bfloat16"),
            }
        )
        compare("ResNet-50", contenders, [Task("encode", 1), Task("encode", 16)], asked.rounds, "images", 1)
        for contender in contenders.values():
            contender.end()


if __name__ == "__main__":
    main()
