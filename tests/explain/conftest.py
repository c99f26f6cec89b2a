"""Captioners of each fusion that have learned nothing: their laws are those of the learned."""

import numpy as np
import pytest

from captioner_jax.captioning import Captioner
from captioner_jax.explain.reading import retell
from captioner_jax.generation.writing import Untrained
from tests.making import FUSIONS, untrained

SIZE = 24  # pixels, of which 3 x 3 cells are made


@pytest.fixture(scope="session", params=FUSIONS)
def captioner(request):
    return Captioner(untrained(request.param, image_size=SIZE))


@pytest.fixture(scope="session")
def cross():
    return Captioner(untrained(image_size=SIZE))


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
        return retell(Untrained(one.graphdef, one.preprocessing), one.parameters, pixels, tokens)

    return of
