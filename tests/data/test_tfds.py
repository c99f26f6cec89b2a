"""The shapes data set as a builder, and any prepared TFDS data set as a source, without TensorFlow."""

import dataclasses
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from captioner_jax.config import DataConfig, TfdsNames
from captioner_jax.data import remembered, tfds_source
from captioner_jax.data.images import open_image
from captioner_jax.data.shapes import builder
from captioner_jax.data.shapes.scene import PICTURE, Scene
from captioner_jax.data.shapes.truth import judge
from captioner_jax.errors import UserError


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    directory = str(tmp_path_factory.mktemp("tfds"))
    with pytest.MonkeyPatch.context() as patch:
        few = {name: (6, held_out) for name, (_, held_out) in builder.SPLITS.items()}
        patch.setattr(builder, "SPLITS", few)
        return directory, builder.load(directory), builder.load(directory)


def test_examples_hold_scenes_and_true_captions(prepared):
    _, data, _ = prepared
    splits = {"train": data.train} | data.validation | data.test
    assert splits.keys() == builder.SPLITS.keys()
    for source in splits.values():
        assert len(source) == 6
        for example in source:
            assert open_image(example.image, PICTURE).size == (PICTURE, PICTURE)
            assert all(judge(caption, Scene.from_json(example.facts)).complete for caption in example.captions)
    assert len({example.image for source in splits.values() for example in source}) == 6 * len(splits)


def test_what_is_prepared_is_read_again(prepared):
    _, data, again = prepared
    assert list(data.train) == list(again.train)


def test_two_that_draw_at_once_do_it_once(tmp_path, monkeypatch):
    monkeypatch.setattr(builder, "SPLITS", {name: (40, held_out) for name, (_, held_out) in builder.SPLITS.items()})
    drawn_by = set()
    jpeg = builder.jpeg
    monkeypatch.setattr(builder, "jpeg", lambda *scene: drawn_by.add(threading.get_ident()) or jpeg(*scene))
    at_once = threading.Barrier(2)
    with ThreadPoolExecutor() as pool:
        one, other = pool.map(lambda _: at_once.wait() + 1 and builder.load(str(tmp_path)), range(2))
    assert list(one.train) == list(other.train)
    assert len(drawn_by) == 1


def test_any_prepared_data_set_is_a_source(prepared):
    directory, data, _ = prepared
    names = TfdsNames("shapes", captions="captions", train="train", validation="validation", test="test")
    same = tfds_source.load(DataConfig(source="tfds", data_dir=directory, tfds=names))
    assert [example[1:3] for example in same.train] == [example[1:3] for example in data.train]
    half = TfdsNames("shapes", captions="captions", train="train[:50%]", validation="validation", test="test")
    assert len(tfds_source.load(DataConfig(source="tfds", data_dir=directory, tfds=half)).train) == 3


def test_captions_are_read_with_the_images_only_once(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(remembered, "FOLDER", tmp_path)
    monkeypatch.setattr(remembered, "WORTH", 0.0)
    _, data, again = prepared
    captions = [example.captions for example in data.train]
    assert list(data.train.captions()) == captions
    with monkeypatch.context() as patch:
        patch.delattr(tfds_source.TfdsSource, "read")
        assert list(again.train.captions()) == captions
    (validation, *_) = data.validation.values()
    assert list(validation.captions()) == [example.captions for example in validation] != captions


def test_what_is_not_prepared_is_said(prepared, tmp_path):
    names = TfdsNames("shapes", captions="text", train="train", validation="validation", test="test")
    with pytest.raises(UserError, match="no feature 'text'"):
        tfds_source.load(DataConfig(source="tfds", data_dir=prepared[0], tfds=names))
    mistakes = {
        "no feature 'picture'": {"image": "picture"},
        "captions is no encoded image": {"image": "captions"},
        "image no text": {"captions": "image"},
        "captions/text no text": {"captions": "captions/text"},
    }
    for message, changes in mistakes.items():
        wrong = dataclasses.replace(names, **({"captions": "captions"} | changes))
        with pytest.raises(UserError, match=message):
            tfds_source.load(DataConfig(source="tfds", data_dir=prepared[0], tfds=wrong))
    with pytest.raises(UserError, match="the split exam of shapes is empty"):
        tfds_source.TfdsSource([], "exam").check("shapes")
    with pytest.raises(UserError, match="not prepared as array_record"):
        tfds_source.load(DataConfig(source="tfds", data_dir=str(tmp_path)))


@pytest.mark.usefixtures("prepared")
def test_tensorflow_is_not_imported():
    assert "tensorflow" not in sys.modules
