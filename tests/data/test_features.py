"""A frozen encoder's features on disk: what the encoder gives, of the right images, and of nothing else."""

import dataclasses
import errno
import json
import pickle
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from captioner_jax.config import DataConfig, EncoderConfig, ModelConfig
from captioner_jax.data import features
from captioner_jax.data.features import load_features, make_eye
from captioner_jax.data.folder import load
from captioner_jax.data.images import ImageError, Preprocessing, open_image, to_square
from captioner_jax.errors import UserError
from captioner_jax.model.captioner import Captioner
from tests.data.making import encoded, picture

MODEL = ModelConfig(width=16, heads=2, feed_forward=16, layers=1, encoder=EncoderConfig("convnet", 4, (16,), (1,)))
HOW = Preprocessing(16)


def eye_of(seed=0):
    graphdef, variables = nnx.split(Captioner(MODEL, 9, rngs=nnx.Rngs(seed)))
    return make_eye(MODEL.encoder, graphdef, nnx.to_pure_dict(variables), HOW)


def stripes(i):
    """A picture that differs from its mirror image."""
    pixels = np.zeros((20, 24, 3), np.uint8)
    pixels[:, : i + 2] = 255 - 5 * i
    return pixels


@pytest.fixture
def config(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    rows = []
    for i in range(12):
        file = encoded(Image.fromarray(stripes(i)))
        (folder / f"{i}.png").write_bytes(file if i != 7 else b"no image")
        rows.append({"image": f"{i}.png", "caption": f"stripe {i} on the left", "split": "train"})
    for name, split in (("v", "validation"), ("t", "test")):
        (folder / f"{name}.png").write_bytes(encoded(picture()))
        rows.append({"image": f"{name}.png", "caption": "a stripe", "split": split})
    (folder / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    where = str(tmp_path / "features")
    return DataConfig("folder", str(folder), image_size=16, features=where, flip=True, crop=0.5)


@pytest.mark.parametrize("framing", ["middle", "whole"])
def test_the_first_view_is_what_evaluation_sees(config, framing, monkeypatch):
    config = dataclasses.replace(config, framing=framing)
    monkeypatch.setattr(features, "BATCH", 5)
    eye, source = eye_of(), load(config).train
    kept = load_features(source, "train", config, eye, views=3)
    for i, example in enumerate(source):
        if i == 7:
            with pytest.raises(ImageError, match="not an image"):
                kept.evaluation(i, example)
            continue
        pixels = to_square(open_image(example.image, 16), 16, framing)
        expected = np.asarray(eye.glance(np.stack([pixels] * 5)))[0]
        np.testing.assert_allclose(kept.evaluation(i, example), expected, rtol=1e-2, atol=1e-2)
    assert kept.nothing().shape == kept.evaluation(0, source[0]).shape


def test_views_are_drawn_and_not_the_mirrored_where_that_is_forbidden(config):
    source = load(config).train
    kept = load_features(source, "train", config, eye_of(), views=6)
    rng = np.random.default_rng(0)
    i = int(np.flatnonzero(kept.mirrored.any(0) & (kept.mirrored.sum(0) < 5))[0])
    drawn = [kept.training(i, mirror, rng).tobytes() for mirror in (True, False) for _ in range(60)]
    assert set(drawn[:60]) == {kept.cells[view, i].tobytes() for view in range(6)}
    assert set(drawn[60:]) == {kept.cells[view, i].tobytes() for view in range(6) if not kept.mirrored[view, i]}


def test_features_are_computed_once(config):
    source, eye = load(config).train, eye_of()
    first = load_features(source, "train", config, eye, views=2)

    def blind(pixels):
        raise AssertionError("computed again")

    again = load_features(source, "train", config, eye._replace(glance=blind), views=2)
    np.testing.assert_array_equal(first.cells, again.cells)
    sent = pickle.loads(pickle.dumps(again))
    np.testing.assert_array_equal(sent.cells, again.cells)
    assert len(pickle.dumps(again)) < 1000


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"eye": eye_of(1)}, "encoder"),
        ({"eye": eye_of()._replace(mark="another normalisation")}, "encoder"),
        ({"framing": "whole"}, "framing"),
        ({"views": 3}, "views"),
        ({"views_seed": 1}, "views_seed"),
        ({"crop": 0.7}, "crop"),
        ({"jitter": 0.1}, "jitter"),
        ({"flip": False}, "flip"),
        ({"randaugment": 5.0}, "randaugment"),
    ],
)
def test_features_of_something_else_are_refused(config, change, what):
    source, given = load(config).train, {"eye": eye_of(), "views": 2}
    load_features(source, "train", config, **given)
    other = dataclasses.replace(config, **{k: v for k, v in change.items() if k not in given})
    with pytest.raises(UserError, match=f"made with other {what}: remove it"):
        load_features(source, "train", other, **(given | {k: v for k, v in change.items() if k in given}))


def test_features_of_before_there_was_framing_are_those_of_the_middle(config):
    source, given = load(config).train, {"eye": eye_of(), "views": 1}
    load_features(source, "train", config, **given)
    file = Path(config.features, "train", "made_from.json")
    told = json.loads(file.read_text())
    del told["framing"]
    file.write_text(json.dumps(told))
    load_features(source, "train", config, **given)
    with pytest.raises(UserError, match="made with other framing"):
        load_features(source, "train", dataclasses.replace(config, framing="whole"), **given)


def test_features_of_other_images_are_refused(config):
    data = load(config)
    load_features(data.train, "train", config, eye_of(), views=1)
    with pytest.raises(UserError, match="other images"):
        load_features(data.test["test"], "train", config, eye_of(), views=1)


def test_features_of_the_same_images_in_another_order_are_refused(config):
    captions = Path(config.path, "captions.jsonl")
    lines = captions.read_text().splitlines(keepends=True)
    load_features(load(config).train, "train", config, eye_of(), views=1)
    captions.write_text("".join(lines[i] for i in [0, 2, 1, *range(3, len(lines))]))
    with pytest.raises(UserError, match="other images"):
        load_features(load(config).train, "train", config, eye_of(), views=1)


def test_a_full_disk_is_an_error_in_words(config, monkeypatch):
    def full(file, shape):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(features, "_write_head", full)
    with pytest.raises(UserError, match="No space left"):
        load_features(load(config).train, "train", config, eye_of(), views=1)


def test_the_mark_is_of_encoder_and_preprocessing_alone():
    graphdef, variables = nnx.split(Captioner(MODEL, 9, rngs=nnx.Rngs(0)))
    variables = nnx.to_pure_dict(variables)
    mark = make_eye(MODEL.encoder, graphdef, variables, HOW).mark
    other_decoder = variables | {"decoder": jax.tree.map(lambda x: x + 1, variables["decoder"])}
    assert make_eye(MODEL.encoder, graphdef, other_decoder, HOW).mark == mark
    assert make_eye(MODEL.encoder, graphdef, variables, dataclasses.replace(HOW, mean=(0.5, 0.5, 0.5))).mark != mark
    other_stride = dataclasses.replace(MODEL.encoder, resnet_version="1")
    assert make_eye(other_stride, graphdef, variables, HOW).mark != mark
    elsewhere = dataclasses.replace(MODEL.encoder, weights="elsewhere.pth")
    assert make_eye(elsewhere, graphdef, variables, HOW).mark == mark


def test_the_mark_of_frozen_stages_is_of_these_alone():
    model = dataclasses.replace(MODEL, encoder=EncoderConfig("vgg11", ends_after=2, frozen_stages=1))
    graphdef, variables = nnx.split(Captioner(model, 9, rngs=nnx.Rngs(0)))
    variables = nnx.to_pure_dict(variables)
    stages = variables["encoder"]["convolutions"]

    def with_one_more(stage):
        changed = stages | {stage: jax.tree.map(lambda x: x + 1, stages[stage])}
        return variables | {"encoder": {"convolutions": changed}}

    marks = [make_eye(model.encoder, graphdef, v, HOW).mark for v in (variables, with_one_more(1), with_one_more(0))]
    assert marks[0] == marks[1] != marks[2]


def test_nothing_half_made_is_left(config, tmp_path):
    def tired(pixels):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        load_features(load(config).train, "train", config, eye_of()._replace(glance=tired), views=1)
    assert not list((tmp_path / "features").iterdir())
