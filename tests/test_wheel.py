"""What is installed without a clone holds everything that one needs."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "unpacked")
    return folder / "unpacked"


def call(unpacked, folder, *arguments):
    environment = os.environ | {"PYTHONPATH": str(unpacked)}
    command = [sys.executable, "-m", "captioner_jax", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_the_recipes_come_with_it_and_can_be_named_alone(unpacked, tmp_path):
    ours = {recipe.name: recipe.read_text() for recipe in (ROOT / "configs").glob("*.toml")}
    assert ours == {
        recipe.name: recipe.read_text() for recipe in unpacked.glob("captioner_jax/programs/configs/*.toml")
    }
    told = call(unpacked, tmp_path, "train", "flickr8k_scratch.toml", "--data.path", "nowhere")
    assert told.returncode == 1
    assert "nowhere" in told.stderr
    told = call(unpacked, tmp_path, "train", "flickr9k.toml")
    assert told.returncode == 1
    assert "flickr9k.toml" in told.stderr


@pytest.mark.slow
def test_a_captioner_comes_with_it(unpacked, tmp_path):
    photograph = ROOT / "docs" / "photographs" / "cat.jpg"
    told = call(unpacked, tmp_path, "sample", str(photograph))
    assert (told.returncode, told.stdout.count("\n")) == (0, 1), told.stderr


@pytest.mark.slow
def test_other_programs_are_not_guessed_at(unpacked, tmp_path):
    told = call(unpacked, tmp_path, "../train")
    assert (told.returncode, told.stdout) == (1, "")
    assert "captioner-jax sample" in told.stderr
