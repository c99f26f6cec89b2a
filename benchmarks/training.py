"""How fast a captioner is trained here, and by what a PyTorch user would write, eager and compiled.

    python benchmarks/training.py --others /path/to/python/with/torch [small|resnet50] [--rounds 7]

`--others` is a Python that has torch and torchvision. The captioner of configs/shapes.toml, and ResNet-50 at 224x224
with six decoder layers (contenders/learning.py), from the same weights on the same batch: forward, backward, clipping
and AdamW. Without dropout and in float32 all must have the same losses, before and after the first updates.

Each contender is a process of its own with as many threads as there are cores; all do some steps in turn, round after
round. Told are images a second by the median and by the best of the rounds; the least processor time, which a busy
machine disturbs least; how many times as fast as PyTorch eager each is, by the best and by processor time; the time
until the first step is done; and the most memory. Then the FLOPs that each of eight simulated devices has, which should
be an eighth.

Measure on a machine with nothing else to do, with `OMP_WAIT_POLICY` unset. `passive` is for machines shared with other
jobs alone: PyTorch's threads then sleep between operations, which on free cores makes small ones half as fast.
"""

import argparse
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from contenders.learning import SHAPES
from contenders.serving import Task
from generation import COMPILED, EAGER, HERE, OURS, Contender
from rows import Rows

DEVICES = 8
BAR = 0.9  # times PyTorch eager's pace
# Of losses before updates, after one, and after two: of ResNet-50 PyTorch's own two forms differ by 3e-7, 6e-6, 1.1e-4.
ROUNDING = (1e-5, 1e-4, 5e-4)


def compare(
    title: str, contenders: dict[str, Contender], images: int, steps: int, rounds: int, peak: float | None, rows: Rows
) -> None:
    """Tells how fast each is; `peak` is of the device, in TFLOP/s."""
    task = Task("train", images)
    for contender in contenders.values():
        contender.do(task)
    times = [{name: contender.do(task) for name, contender in contenders.items()} for _ in range(rounds)]
    flops = contenders[OURS].versions["flops"]
    eager = {of: min(getattr(row[EAGER], of) for row in times) for of in ("seconds", "cpu")}
    ours = min(row[OURS].seconds for row in times)
    heads = ("images/s", "best", "CPU ms/step", "x eager", "by CPU", "first, s", "MiB", "MFU")
    print(" " * 22 + "".join(f"{head:>12}" for head in heads))
    for name, contender in contenders.items():
        of = [row[name] for row in times]
        best, cpu = min(time.seconds for time in of), min(time.cpu for time in of)
        median = statistics.median(time.seconds for time in of)
        first, memory = contender.versions["first"], of[-1].memory
        mfu = "" if peak is None else f"{flops * steps / best / peak / 1e12:.1%}"
        print(
            f"{name:22}{images * steps / median:12.1f}{images * steps / best:12.1f}{1e3 * cpu / steps:12.1f}"
            f"{eager['seconds'] / best:12.2f}{eager['cpu'] / cpu:12.2f}{first:12.1f}{memory:12.0f}{mfu:>12}",
            flush=True,
        )
        figures = {
            "images/s": images * steps / median,
            "best": images * steps / best,
            "CPU ms/step": 1e3 * cpu / steps,
            "first step, s": first,
            "MiB": memory,
        }
        ratio, bar = None if name == OURS else best / ours, BAR if name == EAGER else None
        rows.row(title, "a step", name, figures, ratio=ratio, at_least=bar, seconds=best, flops=flops * steps)


def agree(contenders: dict[str, Contender], rows: Rows) -> None:
    """Tells whether all train the same: as many parameters, and equal losses, up to `ROUNDING`."""
    for name, contender in contenders.items():
        losses = ", ".join(f"{loss:.6f}" for loss in contender.versions["losses"])
        rows.note(
            f"{name}: {contender.versions['versions']}; {contender.versions['parameters']:,} parameters; {losses}"
        )
    first = contenders[OURS].versions
    for name, contender in contenders.items():
        other = contender.versions
        far = [abs(a / b - 1) for a, b in zip(other["losses"], first["losses"], strict=True)]
        if other["parameters"] != first["parameters"] or any(a > b for a, b in zip(far, ROUNDING, strict=True)):
            differ = ", ".join(f"{one:.1e}" for one in far)
            sys.exit(f"{name} trains something else: losses differ by {differ} of their size")


def shares(asked: list[str], rows: Rows) -> None:
    """Tells what part of a step's FLOPs each of several simulated devices has."""
    environment = os.environ | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={DEVICES}",
        "JAX_PLATFORMS": "cpu",
    }
    program = [sys.executable, str(HERE / "learning_here.py"), *asked, "shares"]
    done = subprocess.run(program, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    one, each = json.loads(done.stdout)
    part = f"{each / one:.4f} of them (1/{DEVICES} = {1 / DEVICES:.4f})"
    rows.note(f"{one:.4g} FLOPs a step; each of {DEVICES} devices has {part}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Times of training, here and elsewhere.")
    parser.add_argument("shapes", nargs="*", default=list(SHAPES), choices=[*SHAPES, []], help="which captioners")
    parser.add_argument("--others", default=sys.executable, help="a Python that has torch and torchvision")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--images", type=int, help="a step, if not as many as fit a CPU")
    parser.add_argument("--steps", type=int, help="timed at a time, if not as many as suit a CPU")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument(
        "--shares", action=argparse.BooleanOptionalAction, default=True, help="tell the FLOPs of simulated devices, too"
    )
    parser.add_argument("--peak", type=float, help="of the device, in TFLOP/s, for the share of it that is used (MFU)")
    parser.add_argument("--json", type=Path, help="a file for the results as data")
    asked = parser.parse_args()
    print("python " + shlex.join(sys.argv))
    rows = Rows(asked.json)
    if shutil.which(asked.others) is None:
        sys.exit(f"{asked.others}: there is no such program")
    if subprocess.run([asked.others, "-c", "import torch, torchvision"], stderr=subprocess.DEVNULL).returncode:
        rows.leave_out("training is compared with PyTorch's: name a Python that has torch and torchvision by --others")
    for name in asked.shapes:
        shape = SHAPES[name]
        images = asked.images or shape.images
        title = f"{name}: {images} images of {shape.side}x{shape.side}, {shape.captions} captions each, a step"
        print(f"\n{title}")
        steps = asked.steps or shape.steps
        settings = [name, str(images), str(steps), asked.precision, str(asked.dropout)]
        with tempfile.TemporaryDirectory() as folder:
            asking = [*settings, str(Path(folder) / "weights.npz")]
            contenders = {
                EAGER: Contender(asked.others, "learning_by_hand.py", "eager", *asking),
                COMPILED: Contender(asked.others, "learning_by_hand.py", "compiled", *asking),
                OURS: Contender(sys.executable, "learning_here.py", *asking),
            }
        for contender in contenders.values():
            if contender.versions is None:
                contender.is_missed()
        if asked.dropout == 0 and asked.precision == "float32":
            agree(contenders, rows)
        compare(title, contenders, images, steps, asked.rounds, asked.peak, rows)
        for contender in contenders.values():
            contender.end()
        if asked.shares:
            shares(settings, rows)


if __name__ == "__main__":
    main()
