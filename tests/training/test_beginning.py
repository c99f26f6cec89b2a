"""A captioner before its first step: published weights in their place, contradictions refused."""

import dataclasses

import numpy as np
import pytest
import safetensors.numpy

from captioner_jax.config import Config, DataConfig, EncoderConfig, ModelConfig, TrainConfig
from captioner_jax.data.images import Preprocessing
from captioner_jax.errors import UserError
from captioner_jax.training.beginning import begin
from tests.pretrained.making import made

FIRST_STAGE = {"features.0.weight": (64, 3, 3, 3), "features.0.bias": (64,)}


@pytest.fixture
def weights(tmp_path):
    """Of VGG-11 up to its first stage."""
    file = tmp_path / "vgg11.safetensors"
    safetensors.numpy.save_file({name: made(name, shape) for name, shape in FIRST_STAGE.items()}, file)
    return str(file)


def config(train=None, data=None, **encoder):
    encoder = EncoderConfig(**({"kind": "vgg11", "ends_after": 1} | encoder))
    model = ModelConfig(width=16, heads=2, feed_forward=16, layers=1, encoder=encoder)
    return Config(
        model=model, data=DataConfig(image_size=16, **(data or {})), train=TrainConfig(steps=2, **(train or {}))
    )


def test_weights_are_in_their_place_and_the_rest_is_random(weights):
    beginning = begin(config({"encoder_frozen": True}, weights=weights), 9)
    (convolution,) = beginning.state.parameters["encoder"]["convolutions"][0].values()
    kernel = made("features.0.weight", (64, 3, 3, 3)).transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(convolution["kernel"], kernel)
    assert beginning.preprocessing == Preprocessing(16)
    assert beginning.encoder == f"vgg11 with the weights of {weights}, frozen"
    other = begin(config({"encoder_frozen": True, "seed": 1}, weights=weights), 9).state.parameters
    same = np.array_equal(other["into_memory"]["kernel"], beginning.state.parameters["into_memory"]["kernel"])
    assert not same


def test_another_normalisation_may_be_asked_for(weights):
    beginning = begin(config(weights=weights, normalisation="half"), 9)
    assert beginning.preprocessing == Preprocessing(16, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert beginning.encoder.endswith("learning")


def test_stages_that_the_file_does_not_have_learn_from_scratch(weights):
    beginning = begin(config({"encoder_from": 7}, weights=weights, ends_after=2), 9)
    assert beginning.encoder.endswith("learning from step 7 on; convolutions.1, which it does not have, from scratch")
    with pytest.raises(UserError, match=r"has no convolutions\.1: end before it with --model\.encoder\.ends-after"):
        begin(config({"encoder_frozen": True}, weights=weights, ends_after=2), 9)


@pytest.mark.parametrize(
    ("train", "data", "encoder", "message"),
    [
        ({}, {}, {"kind": "convnet", "weights": "here"}, "no weights are published for convnet"),
        ({"encoder_layer_decay": 0.5}, {}, {"kind": "convnet"}, "not for convnet"),
        ({"encoder_frozen": True}, {}, {}, "a random encoder would stay so"),
        ({}, {}, {"kind": "vgg11_bn"}, "no statistics to keep"),
        ({}, {}, {"kind": "resnet18"}, "no statistics to keep"),
        ({}, {}, {"kind": "densenet121"}, "no statistics to keep"),
        ({"encoder_frozen": True}, {}, {"weights": "here", "batch_norm": "trained"}, "learns no statistics"),
        ({}, {"features": "here"}, {"weights": "here"}, "does not change: --train.encoder-frozen"),
        ({}, {}, {"kind": "vit_s16", "frozen_stages": 1}, "stages of resnet, vgg and densenet"),
        ({"encoder_frozen": True}, {}, {"weights": "here", "frozen_stages": 1}, "take one of these"),
        ({}, {}, {"frozen_stages": 1}, "random ones would stay so"),
        ({"objective": "self_critical"}, {}, {}, "name a --train.start"),
        ({"start": "there"}, {}, {"weights": "here"}, "name one of the two"),
        ({}, {}, {"weights": "here", "frozen_stages": 1, "batch_norm": "trained"}, "learn no statistics"),
        ({}, {"views": 2}, {"weights": "here"}, "kept in a folder"),
        ({"encoder_frozen": True}, {"features": "f", "flip": True}, {"weights": "here"}, "ask for more --data.views"),
        ({}, {}, {"ends_after": 6}, "vgg11 has 5 stages and cannot end after 6"),
        ({}, {}, {"kind": "vit_s16", "ends_after": 1}, None),
        ({}, {"image_size": 20}, {"kind": "vit_s16", "ends_after": 1}, "does not divide into blocks of 16x16"),
    ],
)
def test_settings_that_cannot_be_meant_together_are_refused(train, data, encoder, message):
    whole = config(train, {k: v for k, v in data.items() if k != "image_size"}, **encoder)
    if "image_size" in data:
        whole = dataclasses.replace(whole, data=dataclasses.replace(whole.data, image_size=data["image_size"]))
    if message is None:
        begin(whole, 9)
        return
    with pytest.raises(UserError, match=message):
        begin(whole, 9)
