"""Encoders cut between two stages: the same network, of which the lower part is no longer learned."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from captioner_jax.config import EncoderConfig
from captioner_jax.model.encoder import make_encoder
from captioner_jax.model.names import stage_of

pytestmark = pytest.mark.usefixtures("shallow")
SMALL = {
    "resnet18": EncoderConfig("resnet18", ends_after=3),
    "vgg11": EncoderConfig("vgg11", ends_after=3),
    "densenet121": EncoderConfig("densenet121", ends_after=2),
}


def images():
    return jax.random.normal(jax.random.key(0), (2, 32, 32, 3))


@pytest.mark.parametrize("kind", SMALL)
def test_a_network_that_is_cut_gives_what_it_gave_whole(kind):
    whole = make_encoder(SMALL[kind], rngs=nnx.Rngs(0))
    cells = np.asarray(whole(images()))
    np.testing.assert_array_equal(whole.stages(images())[-1], cells)
    for frozen in range(1, len(whole.stages(images()))):
        cut = make_encoder(dataclasses.replace(SMALL[kind], frozen_stages=frozen), rngs=nnx.Rngs(0))
        np.testing.assert_array_equal(cut.upper(cut.lower(images())), cells)
        np.testing.assert_array_equal(cut(images()), cells)


@pytest.mark.parametrize("kind", SMALL)
def test_no_gradient_passes_below_the_cut_and_all_above_have_one(kind):
    cut = make_encoder(dataclasses.replace(SMALL[kind], frozen_stages=1), rngs=nnx.Rngs(0))
    graphdef, parameters, others = nnx.split(cut, nnx.Param, ...)
    gradients = jax.jit(jax.grad(lambda p: jnp.sum(nnx.merge(graphdef, p, others)(images()) ** 2)))(parameters)
    moved = {True: [], False: []}
    for path, gradient in jax.tree.leaves_with_path(nnx.to_pure_dict(gradients)):
        moved[stage_of([entry.key for entry in path]) < 1].append(bool(jnp.any(gradient != 0)))
    assert moved[True]
    assert not any(moved[True])
    assert moved[False]
    assert all(moved[False])


@pytest.mark.parametrize("kind", SMALL)
def test_a_cut_above_the_last_stage_is_refused(kind):
    stages = SMALL[kind].ends_after
    with pytest.raises(ValueError, match=f"leaves none of {stages} to learn"):
        make_encoder(dataclasses.replace(SMALL[kind], frozen_stages=stages), rngs=nnx.Rngs(0))


def test_a_transition_lies_between_its_stages():
    names = ["stem.kernel", "blocks.0.1.kernel", "transitions.0.conv", "blocks.1.0", "convolutions.3", "norm.scale"]
    assert [stage_of(name.split(".")) for name in names] == [-1, 0, 0.5, 1, 3, float("inf")]
