"""A folder and a tar of the same images give the same examples; splits are as asked for."""

import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner_jax.config import DataConfig, SplitFiles
from captioner_jax.data import splits
from captioner_jax.data.folder import load
from captioner_jax.data.image_files import Folder
from captioner_jax.errors import UserError
from tests.data.making import colour_folder


def config(path, **settings):
    return DataConfig(source="folder", path=str(path), **settings)


def everything(data):
    splits = {"train": data.train} | data.validation | data.test
    return {name: list(source) for name, source in splits.items()}


def test_a_tar_is_as_good_as_a_folder(tmp_path):
    root = colour_folder(tmp_path / "data")
    with tarfile.open(root / "all.tar", "w") as archive:
        for file in sorted(root.glob("*.jpg")):
            archive.add(file, f"deep/inside/{file.name}")
    assert everything(load(config(root))) == everything(load(config(root, images="all.tar")))


def test_drawn_splits_share_nothing_and_lose_nothing(tmp_path):
    root = colour_folder(tmp_path / "data")
    drawn = everything(load(config(root, held_out=0.2)))
    names = [example.name for source in drawn.values() for example in source]
    assert sorted(names) == [f"{i:03}.jpg" for i in range(30)]
    assert [len(drawn[name]) for name in ("train", "validation", "test")] == [18, 6, 6]
    assert drawn == everything(load(config(root, held_out=0.2)))


@given(st.sets(st.text(), min_size=40), st.sets(st.text(), max_size=20), st.floats(1 / 40, 0.4))
def test_added_images_bring_nothing_that_was_trained_on_into_the_test(names, added, share):
    before, after = (splits.drawn(some, int(share * len(some))) for some in (names, names | added))
    assert not set(before["train"]) & set(after["test"])
    assert sorted(name for split in after.values() for name in split) == sorted(names | added)


def test_splits_from_files_name_what_is_not_there(tmp_path):
    root = colour_folder(tmp_path / "data")
    for split, names in {"train": ["000.jpg", "gone.jpg"], "validation": ["001.jpg"], "test": ["002.jpg"]}.items():
        (root / f"{split}.txt").write_text("\n".join(names) + "\n")
    data = load(config(root, splits=SplitFiles("train.txt", "validation.txt", "test.txt")))
    assert [example.name for example in data.train] == ["000.jpg"]
    assert data.problems == ("train.txt: a listed image that has no file or no captions (gone.jpg)",)


def test_missing_images_are_named(tmp_path):
    root = colour_folder(tmp_path / "data")
    (root / "004.jpg").unlink()
    assert load(config(root)).problems == ("004.jpg: no such image",)


def test_names_do_not_lead_out_of_the_folder(tmp_path):
    (tmp_path / "secret.jpg").write_bytes(b"x")
    (tmp_path / "inside").mkdir()
    images = Folder(tmp_path / "inside")
    assert "../secret.jpg" not in images
    assert str(tmp_path / "secret.jpg") not in images


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": None}, "--data.path"),
        ({"path": "/none/here"}, "no such folder"),
        ({"images": "none"}, "no such folder or tar"),
        ({"images": "captions.jsonl"}, "no whole, uncompressed tar"),
        ({"captions": "none.csv"}, "none.csv"),
        ({"splits": SplitFiles(train="x.txt")}, "splits.validation is missing|x.txt"),
    ],
)
def test_mistakes_are_said(tmp_path, settings, message):
    root = colour_folder(tmp_path / "data")
    with pytest.raises(UserError, match=message):
        load(DataConfig(**{"source": "folder", "path": str(root), **settings}))
