"""What is computed again is not kept, and comes out the same."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from captioner_jax import bundle
from captioner_jax.config import EncoderConfig
from captioner_jax.model.captioner import Captioner
from captioner_jax.model.rematerialisation import rematerialise
from tests.making import SMALL

V = 20
IDS = 1 + jnp.arange(16 * 5).reshape(16, 5) % (V - 1)


def loss_of(graphdef, again, side):
    """Of variables: something that all of a captioner takes part in, in training, and the statistics after it."""

    def loss(variables):
        captioner = nnx.merge(graphdef, variables)
        if again:
            rematerialise(captioner)
        images = jax.random.normal(jax.random.key(1), (16, side, side, 3))
        logits = captioner(images, IDS, IDS != 0, nnx.Rngs(dropout=jax.random.key(0)))
        return jax.nn.logsumexp(logits).sum(), nnx.to_pure_dict(nnx.state(captioner, nnx.BatchStat))

    return loss


def kept(graphdef, variables, again):
    """Bytes that wait for the way back, those of some variables among them."""
    loss = loss_of(graphdef, again, side=64)
    way_back = jax.eval_shape(lambda variables: jax.vjp(loss, variables, has_aux=True)[1], variables)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(way_back))


@pytest.mark.parametrize(
    ("kind", "fusion"),
    [("convnet", "cross"), ("resnet18", "weighted"), ("vgg11_bn", "concat"), ("vit_s16", "sigmoid")],
)
def test_less_is_kept_for_the_way_back(kind, fusion):
    ends_after = None if kind == "convnet" else 2
    encoder = EncoderConfig(kind, 4, (16, 32), (0, 2), ends_after=ends_after, batch_norm="trained")
    graphdef, variables = bundle.abstract(dataclasses.replace(SMALL, fusion=fusion, encoder=encoder), V)
    everything, between_blocks = (kept(graphdef, variables, again) for again in (False, True))
    assert between_blocks < 0.6 * everything


def test_gradients_and_statistics_are_the_same():
    """But for the compiler, which may fuse what is computed again in another way. With dropout and batch norms."""
    encoder = EncoderConfig("vgg11_bn", ends_after=1, batch_norm="trained")
    model = dataclasses.replace(SMALL, layers=1, fusion="concat", dropout=0.5, encoder=encoder)
    graphdef, state = nnx.split(Captioner(model, V, rngs=nnx.Rngs(0)))
    variables = nnx.to_pure_dict(state)
    losses = [loss_of(graphdef, again, side=4) for again in (False, True)]
    found = [jax.jit(jax.value_and_grad(loss, has_aux=True))(variables) for loss in losses]
    for a, b in zip(*map(jax.tree.leaves, found), strict=True):
        # A bias before a batch norm has a gradient of zero but for rounding.
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-6)
