"""Captioners of each fusion that have learned nothing: their laws are those of the learned."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from captioner_jax.bundle import Bundle
from captioner_jax.captioning import Captioner
from captioner_jax.config import EncoderConfig, ModelConfig
from captioner_jax.data.images import Preprocessing
from captioner_jax.explain.reading import retell
from captioner_jax.generation.writing import Untrained
from captioner_jax.model.captioner import Captioner as Model
from captioner_jax.text.tokenizer import train_words

SMALL = ModelConfig(width=16, heads=2, feed_forward=32, layers=2, encoder=EncoderConfig("convnet", 4, (16, 32), (0, 1)))
SIZE, LENGTH = 24, 6  # pixels, of which 3 x 3 cells are made; tokens


def untaught(seed=0, **settings):
    """Of `ModelConfig` and these settings."""
    config = dataclasses.replace(SMALL, **settings)
    tokenizer = train_words(["a red wall and the blue sky over it"], 1)
    model = Model(config, len(tokenizer), rngs=nnx.Rngs(seed))
    model.decoder.embed.embedding[...] = model.decoder.embed.embedding[...] * 4  # so that words differ in likelihood
    parameters = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(model)))
    return Bundle(config, Preprocessing(SIZE), LENGTH, tokenizer, parameters, {}, {})


@pytest.fixture(scope="session", params=["cross", "concat", "weighted", "sigmoid"])
def captioner(request):
    return Captioner(untaught(fusion=request.param))


@pytest.fixture(scope="session")
def cross():
    return Captioner(untaught())


@pytest.fixture(scope="session")
def photograph():
    return np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)


@pytest.fixture
def retold(photograph):
    """Of a captioner, two captions gone over, of which the second is padded."""

    def of(captioner):
        one = captioner.bundles[0]
        tokens = np.array([[4, 5, 6, 7, 8, 2], [9, 5, 2, 0, 0, 0]])
        pixels = np.stack([photograph, photograph[::-1]])
        untrained = Untrained(one.graphdef, one.preprocessing)
        return retell(untrained, one.parameters, pixels, tokens)

    return of
