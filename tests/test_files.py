"""Folders take the place of others, or leave them as they were."""

import os
import stat
from pathlib import Path

import pytest

from captioner_jax.files import whole_folder, write_whole


@pytest.mark.parametrize("kind", [OSError, KeyboardInterrupt])
def test_a_folder_stays_where_another_cannot_take_its_place(tmp_path, monkeypatch, kind):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "old").touch()
    rename = Path.rename

    def refused(self, target):
        if self.suffix == ".partial":
            raise kind
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(kind), whole_folder(tmp_path / "mine") as folder:
        (folder / "new").touch()
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["mine", "mine/old"]


def test_a_link_stays_one(tmp_path):
    (tmp_path / "link").symlink_to("file")
    for text in ("one", "another"):
        write_whole(tmp_path / "link", text)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "file").read_text() == text


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o666])
def test_who_may_read_a_file_stays(tmp_path, mode):
    file = tmp_path / "file"
    file.touch()
    file.chmod(mode)
    write_whole(file, "anew")
    assert stat.S_IMODE(file.stat().st_mode) == mode
    assert file.read_text() == "anew"


def test_a_new_file_is_as_any_other(tmp_path):
    (tmp_path / "other").touch()
    write_whole(tmp_path / "file", "new")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="files can be given away by root alone")
def test_whose_a_file_is_stays(tmp_path):
    file = tmp_path / "file"
    file.touch()
    os.chown(file, 1234, 2345)
    write_whole(file, "anew")
    assert (file.stat().st_uid, file.stat().st_gid) == (1234, 2345)


def test_what_cannot_be_given_away_is_written_all_the_same(tmp_path, monkeypatch):
    def refused(*_):
        raise PermissionError

    monkeypatch.setattr(os, "chown", refused)
    for text in ("one", "another"):
        write_whole(tmp_path / "file", text)
        assert (tmp_path / "file").read_text() == text


@pytest.mark.parametrize("there", [True, False])
def test_a_link_to_a_folder_stays_one(tmp_path, there):
    (tmp_path / "link").symlink_to("elsewhere")
    if there:
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "old").touch()
    with whole_folder(tmp_path / "link") as folder:
        (folder / "new").touch()
    assert (tmp_path / "link").is_symlink()
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "elsewhere",
        "elsewhere/new",
        "link",
    ]


def test_a_folder_may_be_where_one_is(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with whole_folder(Path()) as folder:
        (folder / "new").touch()
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["new"]


def test_a_name_may_be_as_long_as_may_be(tmp_path):
    write_whole(tmp_path / ("狗" * 85), "dog")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["dog"]


def test_a_folder_may_have_as_long_a_name_as_there_can_be(tmp_path):
    with whole_folder(tmp_path / ("x" * 255)) as folder:
        (folder / "file").touch()
    assert (tmp_path / ("x" * 255) / "file").exists()
