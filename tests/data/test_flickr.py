"""Flickr8k and Flickr30k from every kind of files that people hold, in a folder, in a tar, and prepared."""

import json
import sys
import tarfile
from pathlib import Path

import pytest

from captioner_jax.config import DataConfig
from captioner_jax.data import flickr, flickr_files
from captioner_jax.data.load import load
from captioner_jax.errors import UserError
from tests.data.making import close, encoded, picture

NAMES = [f"{i}_{i:03x}.jpg" for i in range(20)]
# Not in order, so that only those who read the lists get them right.
OFFICIAL = {"train": NAMES[4:18], "validation": NAMES[18:], "test": NAMES[:4]}


def told(name):
    return (f"A dog , numbered {name} .", "一只狗 “runs” 🐕")


@pytest.fixture
def root(tmp_path):
    """Photographs only."""
    root = tmp_path / "my flickr"
    photographs = root / "Flicker8k_Dataset"
    photographs.mkdir(parents=True)
    for i, name in enumerate(NAMES):
        (photographs / name).write_bytes(encoded(picture((i, 2 * i, 3 * i)), "JPEG"))
    return root


def write_tokens(root, file="Flickr8k.token.txt"):
    lines = [f"{name}#{i}\t{caption}\n" for name in NAMES for i, caption in enumerate(told(name))]
    (root / file).write_text("".join(lines), encoding="utf-8")


def write_lists(folder):
    for split, known_as in (("train", "train"), ("validation", "dev"), ("test", "test")):
        (folder / f"Flickr_8k.{known_as}Images.txt").write_text("\n".join(OFFICIAL[split]))


def write_karpathy(root, file):
    split_of = {name: split for split, names in OFFICIAL.items() for name in names}
    images = [
        {
            "filename": name,
            "imgid": i,
            "split": {"validation": "val"}.get(split_of[name], split_of[name]),
            "sentences": [{"raw": caption} for caption in told(name)],
        }
        for i, name in enumerate(NAMES)
    ]
    (root / file).write_text(json.dumps({"dataset": "flickr", "images": images}))


def write_kaggle(root):
    quoted = [(name, caption.replace('"', '""')) for name in NAMES for caption in told(name)]
    (root / "captions.txt").write_text("image,caption\n" + "".join(f'{n},"{c}"\n' for n, c in quoted), encoding="utf-8")


def write_results(root):
    lines = [f"{name}| {i}| {caption}\n" for name in NAMES for i, caption in enumerate(told(name))]
    (root / "results.csv").write_text("image_name| comment_number| comment\n" + "".join(lines), encoding="utf-8")


def read(root, source="flickr8k", **settings):
    return flickr_files.load(DataConfig(source=source, path=str(root), **settings))


def names(data):
    return {split: [example.name for example in source] for split, source in data.splits.items()}


def check_examples(data, root):
    for source in data.splits.values():
        for example in source:
            assert example.captions == told(example.name)
            assert example.image == (root / "Flicker8k_Dataset" / example.name).read_bytes()


@pytest.mark.parametrize("text", [".", "Flickr8k_text"])
def test_the_authors_files_have_the_official_splits(root, text):
    (root / text).mkdir(exist_ok=True)
    write_tokens(root / text)
    write_lists(root / text)
    data = read(root)
    assert names(data) == OFFICIAL
    assert "official splits" in data.about
    assert "(14 images)" in data.about
    check_examples(data, root)


@pytest.mark.parametrize(("source", "number"), [("flickr8k", "8"), ("flickr30k", "30")])
def test_karpathys_json_has_his(root, source, number):
    write_karpathy(root, f"dataset_flickr{number}k.json")
    data = read(root, source)
    assert names(data) == OFFICIAL
    assert "Karpathy's splits" in data.about
    check_examples(data, root)


def test_kaggles_copy_takes_its_splits_from_whatever_has_them(root):
    write_kaggle(root)
    by_lot = read(root)
    assert "NOT the usual splits" in by_lot.about
    assert [len(source) for source in by_lot.splits.values()] == [16, 2, 2]
    assert names(by_lot) == names(read(root)) != OFFICIAL
    check_examples(by_lot, root)
    write_karpathy(root, "dataset_flickr8k.json")
    assert {split: sorted(of_split) for split, of_split in names(read(root, captions="captions.txt")).items()} == {
        split: sorted(of_split) for split, of_split in OFFICIAL.items()
    }
    (root / "dataset_flickr8k.json").unlink()
    write_lists(root)
    assert names(read(root)) == OFFICIAL


@pytest.mark.parametrize("write", [write_results, lambda root: write_tokens(root, "results_20130124.token")])
def test_flickr30k_without_karpathys_splits_says_so(root, write):
    write(root)
    data = read(root, "flickr30k")
    assert "NOT the usual splits" in data.about
    check_examples(data, root)


def test_a_draw_holds_out_as_many_as_is_usual_where_there_are_enough():
    assert flickr_files.splits.usual_or_share(1_000, 0.1, 8_091) == 1_000
    assert flickr_files.splits.usual_or_share(1_000, 0.1, 31_783) == 1_000
    assert flickr_files.splits.usual_or_share(1_000, 0.1, 2_000) == 200


@pytest.mark.parametrize(
    "place", ["Images", "flickr8k/Images", "images.tar", "Flickr8k_Dataset/Flicker8k_Dataset", "."]
)
def test_photographs_are_found_in_places_of_the_usual_names(root, place):
    write_tokens(root)
    write_lists(root)
    expected = {name: (root / "Flicker8k_Dataset" / name).read_bytes() for name in NAMES}
    moved = (root / "Flicker8k_Dataset").rename(root / "moved")
    if place.endswith(".tar"):
        with tarfile.open(root / place, "w") as archive:
            archive.add(moved, "Flicker8k_Dataset")
    elif place == ".":
        for photograph in list(moved.iterdir()):
            photograph.rename(root / photograph.name)
    else:
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        moved.rename(root / place)
    data = read(root)
    assert {example.name: example.image for source in data.splits.values() for example in source} == expected


def test_a_folder_that_may_not_be_read_is_left_out(root, monkeypatch):
    (root / "closed").mkdir()
    write_tokens(root)
    is_file = Path.is_file

    def refused(self):
        if self.parent == root / "closed":
            raise PermissionError(13, "Permission denied")
        return is_file(self)

    monkeypatch.setattr(Path, "is_file", refused)
    close(root / "closed", monkeypatch)
    check_examples(read(root), root)


def test_what_is_wrong_is_named_and_kept_with_the_prepared_copy(root, tmp_path):
    """The first mistake is that of the real file: its one name without a photograph."""
    write_tokens(root)
    write_lists(root)
    with open(root / "Flickr8k.token.txt", "a") as file:
        file.write("2258277193_586949ec62.jpg.1#0\tTwo people .\n" + f"{NAMES[0]}#0\tAgain .\n{NAMES[1]}#7\t \n")
    with open(root / "Flickr_8k.testImages.txt", "a") as file:
        file.write(f"\n{NAMES[5]}\n")
    (root / "Flicker8k_Dataset" / NAMES[4]).unlink()
    config = DataConfig(source="flickr8k", path=str(root), data_dir=str(tmp_path / "tfds"))
    data = load(config)
    expected = {
        f"Flickr8k.token.txt line 42: an id given before; the line is left out ({NAMES[0]}#0)",
        f"Flickr8k.token.txt line 43: the caption is empty ({NAMES[1]})",
        "2258277193_586949ec62.jpg.1: no such image",
        f"{NAMES[4]}: no such image",
        f"Flickr_8k.trainImages.txt: a listed image that has no file or no captions ({NAMES[4]})",
        f"Flickr_8k.testImages.txt: an image in two splits; the first one counts ({NAMES[5]})",
    }
    assert set(data.problems) == expected
    assert len(data.problems) == len(expected)
    assert load(DataConfig(source="flickr8k", data_dir=config.data_dir)).problems == data.problems


@pytest.fixture
def prepared(root, tmp_path):
    write_tokens(root)
    write_lists(root)
    config = DataConfig(source="flickr8k", path=str(root), data_dir=str(tmp_path / "tfds"))
    return config, load(config)


def test_a_prepared_copy_gives_the_same_examples_and_needs_no_path(root, prepared):
    config, data = prepared
    files = read(root)
    for again in (data, load(config), load(DataConfig(source="flickr8k", data_dir=config.data_dir))):
        assert {split: sorted(source) for split, source in again.splits.items()} == {
            split: sorted(source) for split, source in files.splits.items()
        }
        assert again.about.startswith(files.about)
    assert "tensorflow" not in sys.modules


def test_a_copy_of_other_files_is_not_taken_for_these(root, prepared):
    config, _ = prepared
    write_karpathy(root, "dataset_flickr8k.json")  # adds a file of splits
    with pytest.raises(UserError, match="prepared from other captions or splits"):
        load(config)


def test_tfds_own_way_with_a_manual_folder(root, tmp_path):
    write_karpathy(root, "dataset_flickr30k.json")
    builder = flickr.Flickr30k(data_dir=str(tmp_path), file_format="array_record")
    builder.download_and_prepare(download_config=flickr.tfds.download.DownloadConfig(manual_dir=str(root)))
    assert {split: info.num_examples for split, info in builder.info.splits.items()} == {
        split: len(of_split) for split, of_split in OFFICIAL.items()
    }


@pytest.mark.parametrize("source", ["flickr8k", "flickr30k"])
def test_where_nothing_is_there_it_is_said_what_to_get_and_where(tmp_path, source):
    with pytest.raises(UserError, match=rf"--data\.path.*dataset_{source}\.json.*kaggle\.com"):
        load(DataConfig(source=source, data_dir=str(tmp_path)))
    with pytest.raises(UserError, match=rf"no captions.*dataset_{source}\.json.*kaggle\.com"):
        load(DataConfig(source=source, path=str(tmp_path), data_dir=str(tmp_path)))


def test_a_folder_without_its_photographs_is_said(root):
    write_tokens(root)
    (root / "Flicker8k_Dataset").rename(root.parent / "elsewhere")
    with pytest.raises(UserError, match=f"none of the first 100 images, such as {NAMES[0]}"):
        read(root)
