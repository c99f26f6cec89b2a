"""What is not there is not asked for."""

import importlib.util
import platform
import subprocess
import sys
from pathlib import Path

import pytest

import sample
import train
from captioner_jax import evaluate, export, release
from captioner_jax.explain import __main__ as explain
from captioner_jax.machine import has_gpus, has_tpus

ROOT = Path(__file__).parent.parent

START = """
import jax
from captioner_jax.platforms import leave_out_absent_tpus
leave_out_absent_tpus()
print(jax.devices()[0].platform)
"""


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs libtpu: pip install -e '.[tpu]'")
def test_libtpu_says_nothing_where_there_is_no_tpu():
    done = subprocess.run([sys.executable, "-c", START], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, "cpu\n", "")


@pytest.mark.parametrize(
    ("file", "found"), [("accel0", True), ("vfio/0", True), ("vfio/vfio", False), ("nvidia0", False)]
)
def test_a_tpu_is_known_by_its_device_file(file, found, tmp_path):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).touch()
    assert has_tpus(tmp_path) == found


@pytest.mark.parametrize(("file", "found"), [("nvidia0", True), ("nvidiactl", False), ("kfd", True), ("accel0", False)])
def test_a_gpu_is_known_by_its_device_file(file, found, tmp_path):
    (tmp_path / file).touch()
    assert has_gpus(tmp_path) == found


# Page faults of a call whose program takes 128 MB and frees them.
FAULTS = """
import resource, sys
from captioner_jax.machine import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
import jax, jax.numpy as jnp
f = jax.jit(lambda x: jnp.outer(x, x) @ x)
x = jnp.arange(2**12 * 1.4, dtype=jnp.float32)
count = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def call(times):
    before = count()
    for _ in range(times):
        f(x).block_until_ready()
    return count() - before
call(20)  # the heap grows until there is room beside what alignment takes
print(call(10))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc's memory")
def test_freed_memory_is_kept():
    """2^15 pages are cleared anew in each of ten calls, or in few of them."""
    kept, given_back = (
        int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True).stdout)
        for how in ("kept", "given back")
    )
    assert kept < given_back / 2
    assert given_back > 9 * 2**14


PROGRAMS = {
    "train.py": (train, "shapes.toml"),
    "sample.py": (sample, "x.jpg", "--captioner", "absent"),
    "captioner_jax/evaluate.py": (evaluate, "absent"),
    "captioner_jax/explain/__main__.py": (explain, "absent"),
    "captioner_jax/export.py": (export, "absent"),
    "captioner_jax/release.py": (release, "absent", "new"),
}
START_NO_JAX = {"captioner_jax/__main__.py", "captioner_jax/bench.py", "captioner_jax/data/__main__.py"}
STAND_ALONE = {"captioner_jax/exported_caption.py"}


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_program_asks_for_tpus_that_are_absent(name, monkeypatch, tmp_path):
    """They leave them out before they look for their captioner or their data, and so before JAX starts."""

    class LeftOut(BaseException):
        pass

    def leave_out():
        raise LeftOut

    program, *arguments = PROGRAMS[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(program, "leave_out_absent_tpus", leave_out)
    with pytest.raises(LeftOut):
        program.main(arguments)


def test_these_are_all_programs():
    files = [*ROOT.glob("*.py"), *ROOT.glob("captioner_jax/**/*.py")]
    programs = {str(file.relative_to(ROOT)) for file in files if '__name__ == "__main__"' in file.read_text()}
    assert programs == PROGRAMS.keys() | START_NO_JAX | STAND_ALONE
