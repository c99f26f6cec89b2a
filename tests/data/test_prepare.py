"""Data sets prepared on purpose: the same examples as their files hold, in one process and by Beam."""

import sys

import pytest

from captioner_jax.config import DataConfig, TfdsNames
from captioner_jax.data import captioned_builder, folder
from captioner_jax.data.command import main
from captioner_jax.data.load import load
from captioner_jax.data.shapes import builder as shapes
from tests.data.making import colour_folder

BEAM = ["--beam-options", "runner=DirectRunner direct_num_workers=1"]


@pytest.fixture
def few_scenes(monkeypatch):
    monkeypatch.setattr(shapes, "SPLITS", {name: (7, held_out) for name, (_, held_out) in shapes.SPLITS.items()})
    monkeypatch.setattr(captioned_builder, "CHUNK", 3)


@pytest.fixture
def root(tmp_path):
    """A folder with one image missing."""
    root = colour_folder(tmp_path / "my data")
    (root / "004.jpg").unlink()
    return root


def mine(data_dir):
    names = TfdsNames("captioned/mine", captions="captions", train="train", validation="validation", test="test")
    return load(DataConfig(source="tfds", data_dir=str(data_dir), tfds=names))


def examples(data):
    return {split: sorted(source) for split, source in data.splits.items()}


def test_a_data_set_of_ones_own(root, tmp_path, capsys):
    assert main(["prepare", "captioned/mine", "--path", str(root), "--data-dir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "train 23, validation 3, test 3" in out
    assert "004.jpg: no such image" in out
    data = mine(tmp_path)
    assert examples(data) == examples(folder.load(DataConfig(source="folder", path=str(root))))
    assert data.problems == ("004.jpg: no such image",)
    assert "captioned/mine/1.0.0" in data.about


@pytest.mark.usefixtures("few_scenes")
def test_what_is_there_is_not_made_again(tmp_path, capsys):
    assert main(["prepare", "shapes", "--data-dir", str(tmp_path)]) == 0
    assert main(["prepare", "shapes", "--data-dir", str(tmp_path)]) == 1
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["flickr"], "known are shapes, flickr8k"),
        (["captioned/../mine"], "known are shapes, flickr8k"),
        (["captioned/mine"], "--path FOLDER"),
        (["flickr8k", "--path", "/none/here"], "/none/here: no such folder"),
        (["captioned/mine", "--path", "/none/here"], "/none/here: no such folder"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(tmp_path, capsys, arguments, message):
    assert main(["prepare", *arguments, "--data-dir", str(tmp_path)]) == 1
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error"))
    assert message in line
    assert not list(tmp_path.rglob("*.array_record*"))


def test_preparing_coco_without_tensorflow_names_the_extra(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    assert main(["prepare", "coco_captions", "--data-dir", str(tmp_path)]) == 1
    assert "captioner-jax[coco]" in capsys.readouterr().err


def test_beam_where_it_is_missing_names_the_extra(root, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam.options.pipeline_options", None)
    arguments = ["prepare", "captioned/mine", "--path", str(root), "--data-dir", str(tmp_path), *BEAM]
    assert main(arguments) == 1
    assert "captioner-jax[beam]" in capsys.readouterr().err


@pytest.mark.usefixtures("few_scenes")
def test_beam_draws_the_same_scenes(tmp_path):
    pytest.importorskip("apache_beam", reason="Apache Beam is not installed: pip install 'captioner-jax[beam]'")
    assert main(["prepare", "shapes", "--data-dir", str(tmp_path / "beam"), *BEAM]) == 0
    by_beam, alone = (shapes.load(str(tmp_path / name)) for name in ("beam", "alone"))
    scenes = lambda data: {split: sorted(e[1:] for e in source) for split, source in data.splits.items()}
    assert scenes(by_beam) == scenes(alone)
    assert all(len(source) == 7 for source in by_beam.splits.values())
    assert "tensorflow" not in sys.modules


def test_beam_makes_the_same_of_files(root, tmp_path, monkeypatch):
    pytest.importorskip("apache_beam", reason="Apache Beam is not installed: pip install 'captioner-jax[beam]'")
    monkeypatch.setattr(captioned_builder, "CHUNK", 5)
    assert main(["prepare", "captioned/mine", "--path", str(root), "--data-dir", str(tmp_path), *BEAM]) == 0
    data = mine(tmp_path)
    assert examples(data) == examples(folder.load(DataConfig(source="folder", path=str(root))))
    assert data.problems == ("004.jpg: no such image",)
    assert "tensorflow" not in sys.modules
