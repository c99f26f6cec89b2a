"""A small captioner that nobody trained, for the tests of what is done with one; and all ways of fusion."""

import dataclasses
from typing import get_args

from flax import nnx

from captioner_jax.bundle import Bundle
from captioner_jax.config import EncoderConfig, Fusion, ModelConfig
from captioner_jax.data.images import Preprocessing
from captioner_jax.model.captioner import Captioner as Model
from captioner_jax.text.tokenizer import train_words

FUSIONS = get_args(Fusion)
TOKENIZER = train_words(["a dog's ball is n't red", "two men (and one dog) run on the grass"], 1)


SMALL = ModelConfig(width=16, heads=2, feed_forward=32, layers=2, encoder=EncoderConfig("convnet", 4, (16, 32), (0, 1)))


def untrained(fusion="cross", seed=3, image_size=16, framing="middle", tokenizer=TOKENIZER, **settings):
    """Of these settings of `ModelConfig` besides."""
    model = dataclasses.replace(SMALL, fusion=fusion, **settings)
    parameters = nnx.to_pure_dict(nnx.state(Model(model, len(tokenizer), rngs=nnx.Rngs(seed))))
    parameters["decoder"]["embed"]["embedding"] *= 6  # so that words are told apart
    preprocessing = Preprocessing(image_size, framing=framing)
    return Bundle(model, preprocessing, 9, tokenizer, parameters, {"test/cider_d": 0.5}, {})
