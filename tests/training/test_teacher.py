"""A teacher: what it must be, and what is kept of it."""

import dataclasses

import numpy as np
import pytest
import safetensors.numpy

from captioner_jax.config import Config, DataConfig, EncoderConfig, TeacherConfig, TrainConfig
from captioner_jax.data.folder import load
from captioner_jax.errors import UserError
from captioner_jax.training import teacher as module
from captioner_jax.training.teacher import check_teacher, make_teacher, teach
from tests.data.making import encoded, picture
from tests.pretrained.making import made
from tests.training.test_beginning import FIRST_STAGE
from tests.training.test_training import MODEL


@pytest.fixture
def weights(tmp_path):
    """Of VGG-11 up to its first stage, whose cells are as many as its pixels."""
    file = tmp_path / "vgg11.safetensors"
    safetensors.numpy.save_file({name: made(name, shape) for name, shape in FIRST_STAGE.items()}, file)
    return str(file)


@pytest.fixture
def config(tmp_path, weights):
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    lines = ["image,caption,split"]
    for i in range(6):
        colour = tuple(map(int, rng.integers(0, 255, 3)))
        (folder / f"{i}.png").write_bytes(encoded(picture(colour)) if i != 1 else b"no image")
        lines.append(f"{i}.png,a thing,{'train' if i < 4 else 'validation' if i == 4 else 'test'}")
    (folder / "captions.csv").write_text("\n".join(lines))
    teacher = TeacherConfig(str(tmp_path / "features"), EncoderConfig("vgg11", ends_after=1, weights=weights), 2)
    return Config(model=MODEL, data=DataConfig("folder", str(folder), image_size=16), teacher=teacher)


def taught_by(config):
    return teach(config, load(config.data).train, make_teacher(config))


def test_components_are_kept_and_taken_again(config, monkeypatch):
    """So that a run that goes on elsewhere foresees the same numbers."""
    first = taught_by(config)
    assert first.components.directions.shape == (64, MODEL.width)

    def otherwise(*_):
        raise AssertionError("found again")

    monkeypatch.setattr(module, "principal_components", otherwise)
    again = taught_by(config)
    np.testing.assert_array_equal(first.components.mean, again.components.mean)
    np.testing.assert_array_equal(first.components.directions, again.components.directions)


def test_what_is_kept_is_the_teachers_alone(config):
    """Mirrored and coloured it is the same; cropped otherwise it is not."""
    config = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, crop=0.5),
        teacher=dataclasses.replace(config.teacher, views=2),
    )
    taught_by(config)
    taught_by(dataclasses.replace(config, data=dataclasses.replace(config.data, flip=True, jitter=0.3)))
    with pytest.raises(UserError, match=r"teacher\.features: .* was made with other crop"):
        taught_by(dataclasses.replace(config, data=dataclasses.replace(config.data, crop=0.6)))


def test_a_sample_lies_evenly_among_the_images_that_can_be_used(config):
    taught = taught_by(config).lessons.taught
    of_image = lambda i: taught.cells[0, i].reshape(-1, 64)
    np.testing.assert_array_equal(taught.sample(8), np.concatenate([of_image(0), of_image(2)]))
    np.testing.assert_array_equal(taught.sample(100), np.concatenate([of_image(i) for i in (0, 2, 3)]))


@pytest.mark.parametrize(
    ("teacher", "encoder", "data", "train", "message"),
    [
        ({"features": None}, {}, {}, {}, "name it with --teacher.features"),
        ({}, {"kind": "convnet"}, {}, {}, "name a --teacher.encoder.kind"),
        ({}, {"frozen_stages": 1}, {}, {}, "leave out its frozen_stages"),
        ({}, {"batch_norm": "trained"}, {}, {}, "leave out its frozen_stages and batch_norm"),
        ({}, {"ends_after": 9}, {}, {}, "teacher: vgg11 has 5 stages"),
        ({}, {}, {"features": "f"}, {}, "learns from pixels"),
        ({}, {}, {}, {"encoder_frozen": True}, "learns from pixels"),
        ({}, {}, {}, {"steps": 9, "encoder_from": 9}, "learns from pixels"),
        ({}, {}, {"randaugment": 5.0}, {}, "leave it out"),
        ({}, {}, {"crop": 0.5}, {}, "more --teacher.views"),
        ({"views": 2}, {}, {}, {}, "name both --data.crop"),
        ({"image_size": 4}, {}, {}, {}, "of 4 pixels it makes 4x4 cells, of 16 the captioner makes 2x2"),
        ({}, {}, {"image_size": 18}, {}, "model: .*does not divide"),
        ({"image_size": 4}, {"ends_after": None}, {}, {}, "teacher: "),
    ],
)
def test_settings_that_cannot_be_meant_together_are_refused(config, teacher, encoder, data, train, message):
    teacher = dataclasses.replace(
        config.teacher, encoder=dataclasses.replace(config.teacher.encoder, **encoder), **teacher
    )
    data, train = dataclasses.replace(config.data, **data), TrainConfig(**train)
    with pytest.raises(UserError, match=message):
        check_teacher(dataclasses.replace(config, teacher=teacher, data=data, train=train))


def test_components_must_be_as_many_as_the_memory_is_wide(config):
    wide = dataclasses.replace(config, model=dataclasses.replace(MODEL, width=128))
    with pytest.raises(UserError, match="64 channels, too few"):
        check_teacher(wide)


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ({"weights": None}, "name --teacher.encoder.weights"),
        ({"weights": "not/here.safetensors"}, "teacher: not/here.safetensors"),
        ({"kind": "vgg13"}, "teacher: .*vgg13"),
        ({"ends_after": 2}, r"teacher: .* has no convolutions\.1: end before it with --teacher\.encoder\.ends-after"),
    ],
)
def test_weights_that_are_not_its_own_are_refused(config, encoder, message):
    """Which of these the settings alone show, a plan without weights need not know."""
    size = 4 if "ends_after" in encoder else 2  # the second stage has half as many cells
    encoder = dataclasses.replace(config.teacher.encoder, **encoder)
    teacher = dataclasses.replace(config.teacher, encoder=encoder, image_size=size)
    with pytest.raises(UserError, match=message):
        make_teacher(dataclasses.replace(config, teacher=teacher))


def test_without_a_folder_there_is_no_teacher():
    assert make_teacher(Config(model=MODEL)) is None
