"""TensorFlow is on no path but that of one command, which prepares COCO the way TensorFlow Datasets does."""

import os
import subprocess
import sys

import pytest

from tests.data.making import colour_folder

EVERYTHING = """
import pathlib, sys
for file in sorted(pathlib.Path("captioner_jax").rglob("*.py")):
    if file.stem not in ("__main__", "__init__"):
        exec("import " + ".".join(file.with_suffix("").parts))
import sample, train
"""

RUN = """
import sys
import sample, train
if __name__ == "__main__":
    root, images = sys.argv[1:]
    small = "--model.width 16 --model.heads 2 --model.feed-forward 16 --model.layers 1 --model.encoder.widths 16"
    small += " --model.encoder.blocks 0 --data.image-size 16 --data.max-length 6 --train.batch-size 4 --train.warmup 1"
    where = ["--runs", root, "--name", "a", "--data.source", "folder", "--data.path", images]
    assert train.main([*where, *small.split(), "--train.steps", "2"]) == 0
    assert sample.main(["--captioner", root + "/a/captioner", images + "/000.jpg"]) == 0
"""


@pytest.fixture
def run(tmp_path, pytestconfig):
    """Runs a program that ends as soon as anything imports TensorFlow, whether it is installed or not."""
    (tmp_path / "fake" / "tensorflow").mkdir(parents=True)
    (tmp_path / "fake" / "tensorflow" / "__init__.py").write_text("raise SystemExit('TensorFlow was imported')")
    path = os.pathsep.join([str(tmp_path / "fake"), str(pytestconfig.rootpath)])

    def run(code, *arguments):
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=pytestconfig.rootpath,
            env=os.environ | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
        )

    return run


def test_an_import_would_be_seen(run):
    assert "TensorFlow was imported" in run("import tensorflow").stderr


@pytest.mark.slow
def test_no_module_imports_it(run):
    done = run(EVERYTHING)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_training_and_sampling_run_without_it(run, tmp_path):
    done = run(RUN, str(tmp_path / "runs"), str(colour_folder(tmp_path / "data", 12)))
    assert done.returncode == 0, done.stderr
