"""Curves of deletion and insertion, against captions written out with those cells."""

import jax.numpy as jnp
import numpy as np

from captioner_jax.captioning import Captioner
from captioner_jax.explain.evidence import occlusion
from captioner_jax.explain.faithfulness import areas_of
from captioner_jax.explain.reading import retell
from captioner_jax.generation.writing import Untrained
from tests.making import untrained

S = 9


def test_areas_are_those_under_the_probabilities_with_so_many_cells(cross, retold):
    retelling = retold(cross)
    maps = np.random.default_rng(0).random((2, 6, S)).astype(np.float32)
    found = areas_of(retelling, jnp.asarray(maps))
    order = np.argsort(-maps[1, 0])

    def probability(cells):
        is_cell = jnp.asarray(np.isin(np.arange(S), cells))
        return float(jnp.exp(retelling.log_p(jnp.tile(is_cell, (2, 1)))[1, 0]))

    deletion = [probability(order[out:]) for out in range(S)]
    insertion = [probability(order[:into]) for into in range(1, S + 1)]
    np.testing.assert_allclose(found.deletion[1, 0], np.trapezoid(deletion[::-1], dx=1 / (S - 1)), rtol=1e-4)
    np.testing.assert_allclose(found.insertion[1, 0], np.trapezoid(insertion, dx=1 / (S - 1)), rtol=1e-4)


def test_an_order_reversed_exchanges_the_two(cross, retold):
    retelling = retold(cross)
    maps = occlusion(retelling)
    forth, back = areas_of(retelling, maps), areas_of(retelling, -maps)
    np.testing.assert_allclose(forth.deletion, back.insertion, rtol=1e-5)
    np.testing.assert_allclose(forth.insertion, back.deletion, rtol=1e-5)


def test_of_a_single_cell_there_is_the_probability_itself():
    captioner = Captioner(untrained(image_size=8)).bundles[0]
    tokens = np.array([[4, 5, 2]])
    pixels = np.zeros((1, 8, 8, 3), np.uint8)
    retelling = retell(Untrained(captioner.graphdef, captioner.preprocessing), captioner.parameters, pixels, tokens)
    found = areas_of(retelling, jnp.ones((1, 3, 1)))
    expected = jnp.exp(retelling.log_p(jnp.ones((1, 1), bool)))
    np.testing.assert_allclose(found.deletion, expected, rtol=1e-5)
    np.testing.assert_allclose(found.insertion, expected, rtol=1e-5)
