"""COCO Captions as its files are handed out, and as TensorFlow Datasets prepares it."""

import json
import sys
import tarfile

import numpy as np
import pytest
import tensorflow_datasets as tfds

from captioner_jax.config import DataConfig, TfdsNames
from captioner_jax.data.load import load
from captioner_jax.errors import UserError
from tests.data.making import encoded, picture

# Which image lies in which part, and what Karpathy makes of it.
TRAIN, RESTVAL, VAL, TEST = range(0, 6), range(6, 9), range(9, 11), range(11, 14)


def jpeg(i):
    return encoded(picture((i, i, 100)), "JPEG")


def part(i):
    return "train" if i in TRAIN else "val"


def name(i):
    return f"COCO_{part(i)}2014_{i:012}.jpg"


@pytest.fixture
def root(tmp_path):
    """The images of 2014 in their folders."""
    for i in range(14):
        folder = tmp_path / f"{part(i)}2014"
        folder.mkdir(exist_ok=True)
        (folder / name(i)).write_bytes(jpeg(i))
    (tmp_path / "annotations").mkdir()
    return tmp_path


def write_karpathy(folder):
    folder.mkdir(exist_ok=True)
    splits = {"train": TRAIN, "restval": RESTVAL, "val": VAL, "test": TEST}
    images = [
        {
            "filepath": f"{part(i)}2014",
            "filename": name(i),
            "cocoid": i,
            "split": split,
            "sentences": [{"raw": f"caption {j} of {i}\n", "tokens": []} for j in range(2)],
        }
        for split, numbers in splits.items()
        for i in numbers
    ]
    (folder / "dataset_coco.json").write_text(json.dumps({"dataset": "coco", "images": images}))


def write_official(root):
    for which in ("train", "val"):
        numbers = [i for i in range(14) if part(i) == which]
        content = {
            "images": [{"id": i, "file_name": name(i)} for i in numbers],
            "annotations": [
                {"id": 10 * i + j, "image_id": i, "caption": f"caption {j} of {i}"} for i in numbers for j in range(2)
            ],
        }
        (root / "annotations" / f"captions_{which}2014.json").write_text(json.dumps(content))


def read(root, **settings):
    return load(DataConfig(source="coco", path=str(root), **settings))


def numbers(source):
    """Of the images of a split, each with the captions and bytes that are its own."""
    found = [int(example.name[-16:-4]) for example in source]
    for i, example in zip(found, source, strict=True):
        assert example.captions == (f"caption 0 of {i}", f"caption 1 of {i}")
        assert example.image == jpeg(i)
    return found


@pytest.mark.parametrize("folder", [".", "annotations", "karpathy", "annotations/karpathy"])
def test_karpathys_splits_train_on_restval_too(root, folder):
    write_karpathy(root / folder)
    write_official(root)
    data = read(root)
    assert [numbers(source) for source in data.splits.values()] == [[*TRAIN, *RESTVAL], [*VAL], [*TEST]]
    assert data.about == "COCO Captions, Karpathy's splits, training on train + restval (9 images)"


def test_training_on_train_alone_is_a_choice_and_is_said(root):
    write_karpathy(root)
    data = read(root, restval=False)
    assert [numbers(source) for source in data.splits.values()] == [[*TRAIN], [*VAL], [*TEST]]
    assert data.about == "COCO Captions, Karpathy's splits, training on train alone, without restval (6 images)"


def test_the_official_annotations_are_said_not_to_be_karpathys(root):
    write_official(root)
    data = read(root, held_out=0.25)
    train, validation, test = (numbers(source) for source in data.splits.values())
    assert train == [*TRAIN]
    assert len(validation) == len(test) == 2
    assert len({*validation, *test} & {*RESTVAL, *VAL, *TEST}) == 4
    assert "NOT Karpathy's" in data.about
    assert "(6 images)" in data.about
    again = read(root, held_out=0.25)
    assert list(again.splits.values())[1].names == data.validation["validation"].names


def test_tars_are_as_good_as_folders(root):
    write_karpathy(root)
    expected = [numbers(source) for source in read(root).splits.values()]
    for which in ("train2014", "val2014"):
        with tarfile.open(root / f"{which}.tar", "w") as archive:
            archive.add(root / which, which)
        (root / which).rename(root / f"not {which}")
    assert [numbers(source) for source in read(root).splits.values()] == expected


def test_the_images_of_2017_serve_karpathys_splits_of_2014(root):
    """Other names, and some images lie in the other part."""
    write_karpathy(root)
    expected = [numbers(source) for source in read(root).splits.values()]
    for i in range(14):
        folder = root / ("val2017" if i % 5 == 0 else "train2017")
        folder.mkdir(exist_ok=True)
        (root / f"{part(i)}2014" / name(i)).rename(folder / f"{i:012}.jpg")
    (root / "train2014").rmdir()
    (root / "val2014").rmdir()
    assert [numbers(source) for source in read(root).splits.values()] == expected


def test_missing_images_are_named(root):
    write_karpathy(root)
    (root / "val2014" / name(9)).unlink()
    data = read(root)
    assert data.problems == (f"val2014/{name(9)}: no such image",)
    assert numbers(data.validation["validation"]) == [10]


def test_what_is_not_there_is_said(root):
    with pytest.raises(UserError, match=r"neither Karpathy's dataset_coco.json nor .*captions_train2014.json"):
        read(root)
    with pytest.raises(UserError, match=r"mine\.json: no such file"):
        read(root, captions="mine.json")
    with pytest.raises(UserError, match="train2014 and val2014"):
        read(root / "annotations")


class CocoCaptions(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """The features, splits and directory of TensorFlow Datasets' own coco_captions, without its objects."""

    VERSION = tfds.core.Version("1.1.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="2014", description="")]  # noqa: RUF012

    def _info(self):
        features = {
            "image": tfds.features.Image(encoding_format="jpeg"),
            "image/filename": tfds.features.Text(),
            "image/id": np.int64,
            "captions": tfds.features.Sequence({"text": np.str_, "id": np.int64}),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        splits = {"train": TRAIN, "restval": RESTVAL, "val": VAL, "test": TEST}
        return {split: self._generate_examples(of_split) for split, of_split in splits.items()}

    def _generate_examples(self, of_split):
        for i in of_split:
            captions = [{"id": 10 * i + j, "text": f"caption {j} of {i}"} for j in range(2)]
            yield i, {"image": jpeg(i), "image/filename": name(i), "image/id": i, "captions": captions}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    directory = str(tmp_path_factory.mktemp("tfds"))
    CocoCaptions(data_dir=directory, file_format="array_record").download_and_prepare()
    return directory


def test_what_tfds_prepared_is_read_with_the_default_names_and_restval(prepared):
    data = load(DataConfig(source="tfds", data_dir=prepared))
    assert [sorted(numbers(source)) for source in data.splits.values()] == [[*TRAIN, *RESTVAL], [*VAL], [*TEST]]
    assert (
        data.about == "coco_captions/2014/1.1.0: validation on val, test on test, training on train+restval (9 images)"
    )
    assert "tensorflow" not in sys.modules


def test_training_on_train_alone_is_said_of_tfds_too(prepared):
    data = load(DataConfig(source="tfds", data_dir=prepared, tfds=TfdsNames(train="train")))
    assert sorted(numbers(data.train)) == [*TRAIN]
    assert "training on train (6 images)" in data.about
