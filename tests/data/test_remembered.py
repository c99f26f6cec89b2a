"""What is remembered is what was made, and only of the same files."""

import pytest

from captioner_jax.data import remembered as module
from captioner_jax.data.remembered import remembered


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FOLDER", tmp_path / "kept" / "here")
    monkeypatch.setattr(module, "WORTH", 0.0)
    return tmp_path / "kept" / "here"


@pytest.mark.usefixtures("folder")
def test_it_is_made_once_for_the_same_files():
    made = iter(range(10))

    def make():
        return ["一只猫 🐈", next(made)]

    assert remembered(["a", 1], make) == remembered(["a", 1], make) == ["一只猫 🐈", 0]
    assert remembered(["a", 2], make) == ["一只猫 🐈", 1]


def test_half_a_file_is_made_anew(folder):
    remembered(["a"], lambda: [1, 2, 3])
    (file,) = folder.iterdir()
    file.write_text("[1, 2")
    assert remembered(["a"], lambda: [4]) == [4]
    assert remembered(["a"], lambda: [5]) == [4]


def test_what_takes_no_time_is_not_kept(folder, monkeypatch):
    monkeypatch.setattr(module, "WORTH", 1.0)
    assert remembered(["a"], lambda: 1) == 1
    assert remembered(["a"], lambda: 2) == 2
    assert not folder.exists()


def test_a_folder_that_cannot_be_written_does_not_stop_a_run(folder, caplog):
    folder.parent.mkdir()
    folder.write_text("a file in its place")
    assert remembered(["a"], lambda: 1) == 1
    assert "cannot be kept" in caplog.text
