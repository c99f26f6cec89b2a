"""A beam as wide as the tree finds what trying every caption finds."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from captioner_jax.config import EncoderConfig, ModelConfig
from captioner_jax.generation.search import beam_search, greedy
from captioner_jax.model.captioner import Captioner
from captioner_jax.text.special import END, PAD, START

V, T = 7, 3  # three words besides the special tokens
CONFIG = ModelConfig(
    width=16, heads=2, feed_forward=32, layers=1, encoder=EncoderConfig("convnet", 4, (16, 32), (0, 1))
)


@pytest.fixture(scope="module")
def captioner():
    one = Captioner(CONFIG, V, rngs=nnx.Rngs(3))
    one.decoder.embed.embedding[...] = one.decoder.embed.embedding[...] * 4  # so that captions differ in likelihood
    return one


@pytest.fixture(scope="module")
def images():
    return jax.random.normal(jax.random.key(1), (2, 16, 16, 3))


def every_caption():
    """Up to T tokens, those shorter than that ended by END."""
    for length in range(T + 1):
        for words in itertools.product(range(4, V), repeat=length):
            yield list(words) if length == T else [*words, END] + [PAD] * (T - length - 1)


@pytest.mark.parametrize("power", [0.0, 0.7, 1.0])
def test_exhaustive(captioner, images, power):
    captions = np.array(list(every_caption()))
    found = beam_search(
        captioner.decoder, captioner.memory(captioner.see(images)), T, beams=len(captions), length_power=power
    )
    inputs = jnp.concatenate([jnp.full((len(captions), 1), START), captions[:, :-1]], axis=1)
    for i in range(2):
        logits = captioner(jnp.repeat(images[i : i + 1], len(captions), 0), inputs, inputs != PAD)
        logits = logits.at[:, :, jnp.array([0, 1, 3])].set(-jnp.inf)
        log_p = jnp.take_along_axis(jax.nn.log_softmax(logits), captions[:, :, None], -1)[:, :, 0]
        lengths = (captions != PAD).sum(1)
        scores = np.asarray(jnp.where(captions != PAD, log_p, 0).sum(1)) / lengths**power
        order = np.argsort(-scores)
        np.testing.assert_allclose(found.scores[i, :5], scores[order[:5]], rtol=1e-4)
        np.testing.assert_array_equal(found.tokens[i, 0], captions[order[0]])


def test_a_batch_is_as_good_as_one_at_a_time(captioner, images):
    together = greedy(captioner.decoder, captioner.memory(captioner.see(images)), T).tokens
    apart = [greedy(captioner.decoder, captioner.memory(captioner.see(images[i : i + 1])), T).tokens for i in range(2)]
    np.testing.assert_array_equal(together, np.concatenate(apart))
