"""Runs all benchmarks of a clone, and writes docs/performance.md of what they measure.

python -m captioner_jax.bench --others PYTHON [--flickr8k FOLDER] [--only captions encoder] [--quick] [--output FILE.md]

PYTHON has what is compared: torch, torchvision, transformers, onnxruntime and onnx; `pip install pycocoevalcap` beside
this package brings the official scorer. What is missing is left out, and the page says so. The machine should have
nothing else to do. Ends with 1 if a benchmark fails, after writing a page of the others.
"""

import datetime
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import tyro

import captioner_jax
from captioner_jax.benchmark_page import Outcome, page, read
from captioner_jax.errors import UserError, for_people, leave
from captioner_jax.files import write_whole

CLONE = Path(__file__).parents[1]
WAITING = "OMP_WAIT_POLICY"
# Programs that want a core, on average of the last minute: with more of them the machine is not idle.
IDLE = 0.5


@dataclass(frozen=True)
class Bench:
    """Measures how fast captioner_jax is, beside what others use, and writes a page of it."""

    others: str | None = None
    """A Python that has torch, torchvision, transformers, onnxruntime and onnx."""
    flickr8k: Path | None = None
    """Flickr8k's folder, for the pipeline."""
    only: tuple[str, ...] = ()
    """These alone, by name; all if none is named."""
    quick: bool = False
    """One round of each, to see that all run; the figures are worth little."""
    output: Path | None = None
    """The page; None: docs/performance.md of the clone."""


class Part(NamedTuple):
    """A benchmark: its program, with arguments; how it is told its rounds, and how many; what it needs."""

    title: str
    arguments: tuple[str, ...]
    rounds: tuple[str, int]
    others: bool = False
    flickr8k: bool = False


PARTS = {
    "limits": Part("The limit", ("limits.py",), ("--rounds", 10)),
    "captions": Part("Captions", ("generation.py", "--part", "decode"), ("--rounds", 7), others=True),
    "encoder": Part("The encoder", ("generation.py", "--part", "encode"), ("--rounds", 7), others=True),
    "published": Part("A published captioner", ("generation.py", "--part", "whole"), ("--rounds", 3), others=True),
    "training": Part("Training a small captioner", ("training.py", "small"), ("--rounds", 9), others=True),
    "resnet50": Part("Training with ResNet-50", ("training.py", "resnet50"), ("--rounds", 3), others=True),
    "cold_start": Part("Cold start", ("cold_start.py",), ("--rounds", 3)),
    "scores": Part("Scores", ("scores.py",), ("--repetitions", 5)),
    "rewards": Part("Rewards", ("rewards.py",), ("--repetitions", 15)),
    "pipeline": Part("The pipeline", ("pipeline.py", "configs/flickr8k_scratch.toml"), ("--rounds", 5), flickr8k=True),
}


@for_people
def main(arguments: list[str]) -> int:
    asked = tyro.cli(Bench, args=arguments, prog="python -m captioner_jax.bench")
    output = _checked(asked)
    about = _about()
    outcomes = [*_run(asked)]
    write_whole(output, page(_command(asked), about, outcomes))
    failed = [outcome.title for outcome in outcomes if outcome.failed]
    print(f"{output}" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


def _checked(asked: Bench) -> Path:
    """The page's path. Raises UserError for what would be found out an hour later."""
    if not (CLONE / "benchmarks").is_dir():
        raise UserError("the benchmarks do not come with the installed package: run this in a clone of the repository")
    if asked.others is not None and shutil.which(asked.others) is None:
        raise UserError(f"--others: {asked.others}: there is no such program")
    if unknown := [name for name in asked.only if name not in PARTS]:
        raise UserError(f"--only: {', '.join(unknown)}: there are {', '.join(PARTS)}")
    if asked.flickr8k is not None and not asked.flickr8k.is_dir():
        raise UserError(f"--flickr8k {asked.flickr8k}: there is no such folder")
    output = asked.output or CLONE / "docs" / "performance.md"
    if output.is_dir():
        raise UserError(f"--output {output} is a folder: name a file")
    if not os.access(output.parent, os.W_OK):
        raise UserError(f"{output}: {output.parent} is no folder that can be written to")
    return output


def _run(asked: Bench) -> Iterator[Outcome]:
    """What comes of each benchmark, one after the other."""
    parts = [part for name, part in PARTS.items() if name in (asked.only or PARTS)]
    for number, part in enumerate(parts, 1):
        print(f"\n--- {part.title} ({number} of {len(parts)})", flush=True)
        start = time.perf_counter()
        outcome = _measure(part, asked)
        why = outcome.failed or outcome.left_out
        print(f"--- {part.title}: {why or f'{time.perf_counter() - start:.0f} s'}", flush=True)
        yield outcome


def _measure(part: Part, asked: Bench) -> Outcome:
    """Runs one; its tables are printed as it goes."""
    option, rounds = part.rounds
    arguments = [*part.arguments, option, "1" if asked.quick else str(rounds)]
    places = ["--others", "PYTHON"] if part.others else ["--data.path", "FLICKR8K"] if part.flickr8k else []
    command = f"python benchmarks/{shlex.join([*arguments, *places])}"
    if part.flickr8k:
        if asked.flickr8k is None:
            return Outcome(part.title, command, left_out="no photographs: name Flickr8k's folder by --flickr8k")
        arguments += ["--data.path", str(asked.flickr8k.absolute())]
    if part.others and asked.others is not None:
        found = shutil.which(asked.others) or asked.others
        arguments += ["--others", str(Path(found).absolute())]  # programs are run in the clone
    with tempfile.TemporaryDirectory() as folder:
        return _outcome(part.title, command, arguments, Path(folder))


def _outcome(title: str, command: str, arguments: list[str], folder: Path) -> Outcome:
    """What comes of a program of benchmarks/; what it complains of is shown if it fails."""
    results, complaints = folder / "results.jsonl", folder / "complaints"
    program, *rest = arguments
    with open(complaints, "wb") as stderr:
        call = [sys.executable, str(CLONE / "benchmarks" / program), *rest, "--json", str(results)]
        done = subprocess.run(call, cwd=CLONE, stderr=stderr)
    rows, notes, left_out = read(results.read_text()) if results.exists() else ([], [], None)
    if left_out:
        return Outcome(title, command, left_out=left_out)
    if done.returncode:
        told = complaints.read_text(errors="replace").strip()
        print(told, file=sys.stderr)
        return Outcome(title, command, failed=told.rpartition("\n")[2] or f"exit code {done.returncode}")
    return Outcome(title, command, rows, notes)


def _command(asked: Bench) -> str:
    """What was typed, without the places of this machine."""
    words = ["python -m captioner_jax.bench"]
    words += ["--others PYTHON"] * (asked.others is not None) + ["--flickr8k FLICKR8K"] * (asked.flickr8k is not None)
    words += [f"--only {' '.join(asked.only)}"] * bool(asked.only) + ["--quick"] * asked.quick
    return " ".join(words)


def _about() -> dict[str, str]:
    """The machine, and versions."""
    packages = [f"{name} {metadata.version(name)}" for name in ("jax", "jaxlib", "flax", "numpy")]
    load = os.getloadavg()[0]
    about = {
        "date": datetime.date.today().isoformat(),
        "processor": f"{_processor()}; {_cores()} cores",
        "load when it began": f"{load:.1f}"
        + ("" if load < IDLE else ": other programs ran; do not trust these figures"),
        "versions": ", ".join([_version(), f"Python {platform.python_version()}", *packages]),
    }
    if policy := os.environ.get(WAITING):
        about[WAITING] = (
            f"{policy}: with `passive` PyTorch is half as fast on free cores, so that this is no fair comparison"
        )
    return about


def _cores() -> int | None:
    """That this program may use; where the system does not tell, that are there."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _processor() -> str:
    """Its name, and what it has for matrices; Linux tells both."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    told = dict(re.split(r"\s*:\s*", line, maxsplit=1) for line in lines if ":" in line)
    flags = told.get("flags", "").split()
    has = [name for flag, name in {"avx2": "AVX2", "avx512f": "AVX-512", "amx_tile": "AMX"}.items() if flag in flags]
    return ", ".join([told.get("model name", platform.machine()), *has])


def _version() -> str:
    """Of this package, with the commit and whether files have been changed since."""
    told = f"captioner_jax {captioner_jax.__version__}"
    git = shutil.which("git")
    if git is None:
        return told
    asked = [git, "describe", "--always", "--dirty", "--exclude=*"]
    commit = subprocess.run(asked, cwd=CLONE, capture_output=True, text=True).stdout.strip()
    return f"{told} ({commit})" if commit else told


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
