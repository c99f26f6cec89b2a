"""What is not there is not asked for."""

import importlib.util
import subprocess
import sys

import pytest

from captioner_jax.platforms import has_tpus

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
