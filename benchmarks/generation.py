"""How fast captions are written here and by what one would take instead: PyTorch with a hand-written cache, eager and
compiled; Hugging Face's `generate`; torchvision's ResNet-50 and onnxruntime for the encoder; and a published captioner,
read by transformers and by this.

    python benchmarks/generation.py --others /path/to/python/with/torch --rounds 7

`--others` is a Python that has torch, torchvision, transformers, onnxruntime and onnx; what it lacks is left out.
Random weights, equal shapes (contenders/serving.py), as many threads as there are cores. Each contender is a process of
its own; all do a task in turn, round after round, and each time twice, of which the second counts. Told are the median
and the best of the rounds, how many times ours the others' best is (whatever else runs on a machine only ever adds to a
time; in bfloat16, ours in bfloat16), and the least processor time, which a busy machine disturbs least.

Measure on a machine with nothing else to do, with `OMP_WAIT_POLICY` unset. `passive` is for machines shared with other
jobs alone: PyTorch's threads then sleep between operations, which on free cores makes small ones half as fast.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple, NoReturn

from contenders.serving import CELLS, FEED_FORWARD, LAYERS, TOKENS, VOCABULARY, WIDTH, Task
from rows import Rows, cores

HERE = Path(__file__).parent / "contenders"
OURS, EAGER, COMPILED, HUGGING_FACE = "captioner_jax", "PyTorch by hand", "the same, compiled", "Hugging Face"
TORCH, TRANSFORMERS = "PyTorch eager", "transformers"
# Seconds for which one waits for the threads of the contender before to wait no more.
PAUSE = 0.1
# How many times as fast as these captioner_jax should be, for so many images.
BARS = {
    (EAGER, 1): 1.7,
    (EAGER, 16): 1.3,
    (HUGGING_FACE, 1): 3.0,
    (HUGGING_FACE, 16): 2.5,
    (TORCH, 1): 1.0,
    (TORCH, 16): 1.0,
}


class Contender:
    """A process that does tasks when asked."""

    def __init__(self, python: str, *command: str):
        if shutil.which(python) is None:
            sys.exit(f"{python}: there is no such program")
        threads = str(cores())
        environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        environment |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # a GPU has room for all of them
        self.program = command[0]
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
        """Ends the program where the process has ended."""
        try:
            self.process.stdin.write(json.dumps(task) + "\n")
            self.process.stdin.flush()
            taken = self.answer()
        except BrokenPipeError:
            taken = None
        return Time(*taken) if taken else self.is_missed()

    def is_missed(self) -> NoReturn:
        sys.exit(f"{self.program} has ended before its time: what it said of that stands above")

    def do_awake(self, task: Task) -> "Time":
        """The second time in a row: no other's threads wait in busy loops any more then, and its own do not sleep."""
        time.sleep(PAUSE)
        self.do(task)
        return self.do(task)

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait()


class Time(NamedTuple):
    """Seconds by the clock and of all cores, and the most memory the process has had, in MiB."""

    seconds: float
    cpu: float
    memory: float


class Work(NamedTuple):
    """What a task takes at least: FLOPs, and bytes of weights that are read."""

    flops: float
    bytes: float


def work(task: Task) -> Work:
    """In float32."""
    if task.part == "encode":
        return Work(task.images * 7.97e9, 4 * 23.5e6)  # ResNet-50 without its head and norms, as XLA counts
    if task.part == "whole":
        tokens, width, layers, words = 197, 768, 12, 50_257  # of ViT-B/16 and GPT-2
        weights = layers * 14 * width**2 + words * width
        encoder = 2 * tokens * (layers * 12 + 1) * width**2 + layers * 4 * tokens**2 * width
        memory = 2 * tokens * layers * 2 * width**2
        flops = task.images * (encoder + memory + TOKENS * task.beams * 2 * weights)
        return Work(flops, 4 * (12 * layers * width**2 + TOKENS * weights))
    weights = LAYERS * (6 * WIDTH**2 + 2 * WIDTH * FEED_FORWARD) + VOCABULARY * WIDTH  # which each step reads
    memory = 2 * CELLS * LAYERS * 2 * WIDTH**2  # keys and values of an image, once
    return Work(task.images * (memory + TOKENS * task.beams * 2 * weights), 4 * TOKENS * weights)


def described(task: Task) -> str:
    beams = f", {task.beams} beam{'s' * (task.beams > 1)}" if task.part != "encode" else ""
    return f"{task.images} image{'s' * (task.images > 1)}{beams}"


def compare(
    title: str, contenders: dict[str, Contender], tasks: list[Task], rounds: int, unit: str, each: int, rows: Rows
) -> None:
    """Tells how long each takes for each task, and how many units (`each` an image) that is a second."""
    print(f"\n{title}\n{'':42}{'median':>9}{'best':>9}{unit + '/s':>12}{'CPU s':>8}{'times ours':>12}{'MiB':>7}")
    for task in tasks:
        for contender in contenders.values():
            contender.do(task)
        times = [[contender.do_awake(task) for contender in contenders.values()] for _ in range(rounds)]
        of_each = dict(zip(contenders, zip(*times, strict=True), strict=True))
        for name, of in of_each.items():
            best = min(time.seconds for time in of)
            ours = min(time.seconds for time in of_each[f"{OURS}, bf16" if name.endswith("bf16") else OURS])
            median = statistics.median(time.seconds for time in of)
            cpu = min(time.cpu for time in of)
            memory = of[-1].memory
            print(
                f"{described(task):18}{name:24}{median * 1e3:6.0f} ms{best * 1e3:6.0f} ms"
                f"{task.images * each / best:12.1f}{cpu:8.2f}{best / ours:12.2f}{memory:7.0f}",
                flush=True,
            )
            figures = {"median, ms": median * 1e3, "best, ms": best * 1e3, "CPU s": cpu, "MiB": memory}
            least = {} if name.endswith("bf16") else work(task)._asdict()
            ratio = None if name.startswith(OURS) else best / ours
            bar = BARS.get((name, task.images))
            rows.row(title, described(task), name, figures, ratio=ratio, at_least=bar, seconds=best, **least)


def among(ways: dict[str, tuple[str, ...]], rows: Rows) -> dict[str, Contender]:
    """Those that can be started."""
    started = {name: Contender(*command) for name, command in ways.items()}
    for name, contender in started.items():
        rows.note(f"{name}: {contender.versions or 'left out, since it cannot be started'}")
    if not started[OURS].versions:
        sys.exit(f"{OURS} cannot be started, with which all others are compared")
    return {name: contender for name, contender in started.items() if contender.versions}


def main() -> None:
    parser = argparse.ArgumentParser(description="Times of captioning, here and elsewhere.")
    parser.add_argument("--others", default=sys.executable, help="a Python that has torch and the others")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--part", choices=["encode", "decode", "whole"], help="this part alone")
    parser.add_argument("--json", type=Path, help="a file for the results as data")
    asked = parser.parse_args()
    rows = Rows(asked.json)
    here, there = sys.executable, asked.others
    if asked.part in (None, "decode"):
        contenders = among(
            {
                OURS: (here, "ours.py", "float32"),
                EAGER: (there, "by_hand.py", "eager", "float32"),
                COMPILED: (there, "by_hand.py", "compiled", "float32"),
                HUGGING_FACE: (there, "hugging_face.py", "float32"),
                f"{OURS}, bf16": (here, "ours.py", "bfloat16"),
                f"{EAGER}, bf16": (there, "by_hand.py", "eager", "bfloat16"),
                f"{HUGGING_FACE}, bf16": (there, "hugging_face.py", "bfloat16"),
            },
            rows,
        )
        tasks = [Task("decode", images, beams) for images in (1, 16) for beams in (1, 5)]
        compare(f"Captions of {TOKENS} tokens", contenders, tasks, asked.rounds, "tokens", TOKENS, rows)
        for contender in contenders.values():
            contender.end()
    if asked.part in (None, "encode"):
        contenders = among(
            {
                OURS: (here, "ours.py", "float32"),
                TORCH: (there, "by_hand.py", "eager", "float32"),
                "PyTorch compiled": (there, "by_hand.py", "compiled", "float32"),
                "onnxruntime": (there, "onnx_runtime.py"),
                f"{OURS}, bf16": (here, "ours.py", "bfloat16"),
                f"{TORCH}, bf16": (there, "by_hand.py", "eager", "bfloat16"),
                "PyTorch compiled, bf16": (there, "by_hand.py", "compiled", "bfloat16"),
            },
            rows,
        )
        tasks = [Task("encode", images) for images in (1, 16)]
        compare("ResNet-50", contenders, tasks, asked.rounds, "images", 1, rows)
        for contender in contenders.values():
            contender.end()
    if asked.part in (None, "whole"):
        with tempfile.TemporaryDirectory() as folder:
            compare_published(there, folder, asked.rounds, rows)


def compare_published(there: str, folder: str, rounds: int, rows: Rows) -> None:
    """Tells how long pixels to captions take by one captioner, read by two libraries."""
    if shutil.which(there) is None:
        sys.exit(f"{there}: there is no such program")
    program = str(HERE / "published_there.py")
    if subprocess.run([there, "-c", "import torch, transformers"], stderr=subprocess.DEVNULL).returncode:
        rows.note(f"{TRANSFORMERS}: left out, since {there} has none, with which a published captioner is written")
        return
    subprocess.run([there, program, folder, "make"], check=True)
    ways = {OURS: (sys.executable, "published_here.py", folder), TRANSFORMERS: (there, "published_there.py", folder)}
    contenders = among(ways, rows)
    tasks = [Task("whole", images, beams) for images in (1, 16) for beams in (1, 5)]
    compare(f"Pixels to captions of {TOKENS} tokens", contenders, tasks, rounds, "tokens", TOKENS, rows)
    for contender in contenders.values():
        contender.end()


if __name__ == "__main__":
    main()
