"""What is zeroed at random."""

import jax.numpy as jnp
import numpy as np
from flax import nnx

from captioner_jax.model.layers import dropout


def test_dropout_keeps_its_share_and_the_mean():
    left = dropout(jnp.ones(10_000), 0.2, nnx.Rngs(dropout=0))
    np.testing.assert_allclose(np.unique(left), [0, 1.25])
    np.testing.assert_allclose(left.mean(), 1, atol=0.02)
