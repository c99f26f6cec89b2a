"""What is not there is not asked for."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import sample
import train
from captioner_jax import evaluate, export, neighbours, published, release
from captioner_jax.explain import __main__ as explain
from captioner_jax.platforms import has_tpus

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


PROGRAMS = {
    "train.py": (train, "shapes.toml"),
    "sample.py": (sample, "x.jpg", "--captioner", "absent"),
    "captioner_jax/evaluate.py": (evaluate, "absent"),
    "captioner_jax/explain/__main__.py": (explain, "absent"),
    "captioner_jax/export.py": (export, "absent"),
    "captioner_jax/neighbours.py": (neighbours, "absent"),
    "captioner_jax/published.py": (published, "absent", "new"),
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
