"""A captioner before its first step: published weights in their place, or all that another one had."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from captioner_jax.bundle import Bundle
from captioner_jax.config import (
    Config,
    DataConfig,
    EncoderConfig,
    ModelConfig,
    TrainConfig,
)
from captioner_jax.data.images import Preprocessing
from captioner_jax.errors import UserError
from captioner_jax.model.captioner import Captioner
from captioner_jax.text.tokenizer import train_words
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
    data = DataConfig(**({"image_size": 16} | (data or {})))
    return Config(model=model, data=data, train=TrainConfig(steps=2, **(train or {})))


def test_weights_are_in_their_place_and_the_rest_is_random(weights):
    beginning = begin(config({"encoder_frozen": True}, weights=weights), 9)
    (convolution,) = beginning.state.parameters["encoder"]["convolutions"][0].values()
    kernel = made("features.0.weight", (64, 3, 3, 3)).transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(convolution["kernel"], kernel)
    assert beginning.preprocessing == Preprocessing(16)
    assert beginning.encoder == f"vgg11 with the weights of {weights} (imagenet pixels), frozen"
    other = begin(config({"encoder_frozen": True, "seed": 1}, weights=weights), 9).state.parameters
    same = np.array_equal(other["into_memory"]["kernel"], beginning.state.parameters["into_memory"]["kernel"])
    assert not same


def test_what_is_not_published_is_what_a_captioner_from_scratch_has(weights):
    """But for its last bit, since it is drawn inside a program, and without the rest."""
    published, scratch = (begin(config(ends_after=2, weights=file), 9).state.parameters for file in (weights, None))
    published["encoder"]["convolutions"].pop(0)
    scratch["encoder"]["convolutions"].pop(0)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=0), published, scratch)


def test_another_normalisation_may_be_asked_for(weights):
    beginning = begin(config(weights=weights, normalisation="half"), 9)
    assert beginning.preprocessing == Preprocessing(16, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert beginning.encoder.endswith("learning")


def test_a_captioner_keeps_how_its_pictures_were_framed():
    assert begin(config(data={"framing": "whole"}), 9).preprocessing == Preprocessing(16, framing="whole")


def test_stages_that_the_file_does_not_have_learn_from_scratch(weights):
    beginning = begin(config({"encoder_from": 7}, weights=weights, ends_after=2), 9)
    assert beginning.encoder.endswith("learning from step 7 on; convolutions.1, which it does not have, from scratch")
    with pytest.raises(UserError, match=r"has no convolutions\.1: end before it with --model\.encoder\.ends-after"):
        begin(config({"encoder_frozen": True}, weights=weights, ends_after=2), 9)
    with pytest.raises(UserError, match=r"has no convolutions\.1, convolutions\.2: .* or let it learn"):
        begin(config(weights=weights, ends_after=3, frozen_stages=2), 9)
    begin(config(weights=weights, ends_after=3, frozen_stages=1), 9)


def kept(whole, vocabulary=9):
    """A captioner as a run leaves it."""
    captioner = Captioner(whole.model, vocabulary, rngs=nnx.Rngs(5))
    tokenizer = train_words(["a b c d e"], 1)
    assert len(tokenizer) == vocabulary
    return Bundle(whole.model, Preprocessing(16), 6, tokenizer, nnx.to_pure_dict(nnx.state(captioner)), {}, {})


def test_a_start_gives_its_weights_and_may_learn_otherwise():
    start = kept(config(kind="resnet18", ends_after=2, batch_norm="trained"))
    other = {"kind": "resnet18", "ends_after": 2, "frozen_stages": 1}
    beginning = begin(config({"start": "there"}, **other), 9, start)
    jax.tree.map(np.testing.assert_array_equal, beginning.state.parameters, start.parameters)
    assert beginning.encoder == "resnet18 as there has it, learning above its first 1 stages"
    assert beginning.history == {"start": {}}


def test_who_starts_from_another_tells_of_it_and_of_its_teacher():
    start = kept(config(kind="resnet18", ends_after=2, batch_norm="trained"))
    before = {"run": "second", "step": 5, "start": {"run": "first", "step": 9}}
    start = dataclasses.replace(start, training=before | {"teacher": "densenet169", "data": {"source": "shapes"}})
    history = begin(config({"start": "there"}, kind="resnet18", ends_after=2), 9, start).history
    assert history == {"teacher": "densenet169", "start": before}


@pytest.mark.parametrize(
    ("data", "encoder", "message"),
    [
        ({"image_size": 32}, {}, "data.image_size: 16 then, 32 now"),
        ({"framing": "whole"}, {}, "data.framing: middle then, whole now"),
        ({}, {"ends_after": 2}, "model.encoder.ends_after: 1 then, 2 now"),
        ({}, {"normalisation": "clip"}, "model.encoder.normalisation: .* then, clip now"),
    ],
)
def test_a_start_of_another_kind_is_refused(data, encoder, message):
    start = kept(config())
    begin(config({"start": "there"}, normalisation="imagenet"), 9, start)
    with pytest.raises(UserError, match=message):
        begin(config({"start": "there"}, data, **encoder), 9, start)


def test_a_start_of_another_deviation_is_refused():
    start = kept(config())
    start = dataclasses.replace(start, preprocessing=dataclasses.replace(start.preprocessing, deviation=(0.5,) * 3))
    with pytest.raises(UserError, match="deviation"):
        begin(config({"start": "there"}, normalisation="imagenet"), 9, start)


def test_a_start_keeps_its_pixels():
    start = dataclasses.replace(kept(config()), preprocessing=Preprocessing(16, (0.5,) * 3, (0.25,) * 3))
    assert begin(config({"start": "there"}), 9, start).preprocessing == start.preprocessing
