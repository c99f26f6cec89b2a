"""A folder and a tar of the same images give the same examples; splits are as asked for."""

import json
import shutil
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner_jax.config import DataConfig, SplitFiles
from captioner_jax.data import splits
from captioner_jax.data.caption_files import one_name
from captioner_jax.data.folder import load
from captioner_jax.data.image_files import Folder
from captioner_jax.data.load import load as load_any
from captioner_jax.errors import UserError
from tests.data.making import colour_folder, encoded, picture


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
    assert str(tmp_path / "inside" / ".." / "secret.jpg") not in images


@pytest.mark.parametrize(
    "spelt", ["more\\über.jpg", "more/u\u0308ber.jpg", "./more/über.jpg", "{folder}/more/über.jpg"]
)
def test_names_may_be_spelt_as_others_spell_them(tmp_path, spelt):
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "über.jpg").write_bytes(b"x")
    images = Folder(tmp_path)
    name = one_name(spelt.format(folder=tmp_path))
    assert name in images
    assert images.read(name) == b"x"
    assert [*images.others([name])] == []


def test_an_image_by_two_names_is_one(tmp_path):
    root = colour_folder(tmp_path / "data")
    lines = [("000.jpg", "train"), (".\\000.jpg", "test"), ("001.jpg", "val"), (f"{root}/000.jpg", "test")]
    rows = [json.dumps({"image": name, "caption": "a wall", "split": split}) for name, split in lines]
    (root / "captions.jsonl").write_text("\n".join(rows))
    data = load(config(root))
    assert [[example.name for example in source] for source in everything(data).values()] == [["000.jpg"], ["001.jpg"]]
    assert [problem.particulars for problem in data.problems] == ["000.jpg"] * 2


def test_what_is_hidden_is_no_image_and_links_are_followed_once(tmp_path):
    root, real = colour_folder(tmp_path / "data", images=3), colour_folder(tmp_path / "real", images=1)
    for name in ("._000.jpg", ".previews/000.jpg", "@eaDir/000.jpg"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"x")
    (root / "more").symlink_to(real)
    (real / "loop").symlink_to(root)
    assert [*Folder(root).others(["000.jpg"])] == ["001.jpg", "002.jpg", "more/000.jpg"]


def test_splits_in_folders_with_metadata_of_their_own_are_read_as_one(tmp_path):
    for folder, images in {"train": "ab", "validation": "a", "other": "a"}.items():
        (tmp_path / folder).mkdir()
        for image in images:
            (tmp_path / folder / f"{image}.png").write_bytes(encoded(picture()))
        rows = [{"file_name": f"{image}.png", "text": f"{image} in {folder}"} for image in (*images, "z")]
        (tmp_path / folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = load(DataConfig("folder", str(tmp_path)))
    assert {name: [*split.captions()] for name, split in data.splits.items()} == {
        "train": [("a in train",), ("b in train",)],
        "validation": [("a in validation",)],
    }
    assert data.train[1].image
    assert {problem.where for problem in data.problems} == {"train/z.png", "validation/z.png"}
    (tmp_path / "train" / "metadata.csv").touch()
    with pytest.raises(UserError, match="train has several captions files"):
        load(DataConfig("folder", str(tmp_path)))
    (tmp_path / "train" / "metadata.csv").unlink()
    (tmp_path / "validation" / "metadata.jsonl").unlink()
    with pytest.raises(UserError, match="has no folder validation with captions"):
        load(DataConfig("folder", str(tmp_path)))


def test_files_are_not_named_for_data_that_have_none(tmp_path):
    for source in ("shapes", "tfds"):
        with pytest.raises(UserError, match=r"data\.path: there would not be looked at"):
            load_any(DataConfig(source, path="there"))


def test_metadata_are_captions_only_where_there_are_no_others(tmp_path):
    root = colour_folder(tmp_path / "data")
    (root / "metadata.csv").write_text("file,camera\n000.jpg,mine\n")
    assert "captions in captions.jsonl" in load(config(root)).about


@pytest.mark.parametrize("spelt", ["000", "000.JPG", "data/000.jpg", "000.png"])
def test_a_name_that_is_almost_right_is_told(tmp_path, spelt):
    root = colour_folder(tmp_path / "data")
    (root / "captions.jsonl").write_text(json.dumps({"image": spelt, "caption": "a wall"}))
    with pytest.raises(UserError, match=rf"such as {spelt}, is in .*data: though 000\.jpg is"):
        load(config(root))


def test_text_files_beside_images_are_captions(tmp_path):
    root = colour_folder(tmp_path / "data")
    (root / "more").mkdir()
    for file, text in (
        ("000.txt", "a dog\n\nit runs\r\n"),
        ("more/x.txt", "a cat"),
        ("001.txt", "\n"),
        ("notes.txt", "-"),
    ):
        (root / file).write_text(text, newline="")
    shutil.copy(root / "000.jpg", root / "more" / "x.PNG")
    (root / "captions.jsonl").unlink()
    with pytest.raises(UserError, match="2 images are too few to draw some"):
        load(config(root))
    (root / "002.txt").write_text("a wall")
    data = load(config(root))
    assert "captions in text files beside them" in data.about
    told = {example.name: example.captions for source in everything(data).values() for example in source}
    assert told == {"000.jpg": ("a dog", "it runs"), "more/x.PNG": ("a cat",), "002.jpg": ("a wall",)}


def test_empty_text_files_hold_no_captions(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    (tmp_path / "a.txt").write_text(" \n")
    with pytest.raises(UserError, match=r"the text files in .* hold no captions"):
        load(config(tmp_path))


@pytest.mark.parametrize("in_lists", [False, True])
def test_no_image_needs_to_be_kept_for_a_test(tmp_path, in_lists):
    root = colour_folder(tmp_path / "data", images=3)
    rows = [("000.jpg", "train"), ("001.jpg", "train"), ("002.jpg", "val")]
    if in_lists:
        (root / "train.txt").write_text("000.jpg\r001.jpg")
        (root / "val.txt").write_text("002.jpg")
        data = load(config(root, splits=SplitFiles("train.txt", "val.txt")))
    else:
        lines = [json.dumps({"image": name, "caption": "a wall", "split": split}) for name, split in rows]
        (root / "captions.jsonl").write_text("\n".join(lines))
        data = load(config(root))
    assert [len(source) for source in everything(data).values()] == [2, 1]
    assert data.about.endswith("(2 images); no image is kept for a test")


def test_why_a_split_is_empty_is_told(tmp_path):
    root = colour_folder(tmp_path / "data", images=3)
    lines = [
        {"image": f"00{i}.jpg", "caption": "a wall", "split": split} for i, split in enumerate(["train", "Valid."])
    ]
    (root / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(UserError) as caught:
        load(config(root))
    first, second = str(caught.value).splitlines()
    assert first == f"{root}: the validation split is empty, of 1 images in all"
    assert second == "captions.jsonl line 2: unknown split; known are train, validation, test, restval ('valid.')"


@pytest.mark.parametrize(("images", "sizes"), [(3, [1, 1, 1]), (4, [2, 1, 1]), (30, [24, 3, 3])])
def test_of_a_few_images_one_each_is_drawn(tmp_path, images, sizes):
    data = load(config(colour_folder(tmp_path, images)))
    assert [len(source) for source in everything(data).values()] == sizes


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
