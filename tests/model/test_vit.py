"""Laws of the Vision Transformer."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from captioner_jax.config import EncoderConfig
from captioner_jax.model import vit
from captioner_jax.model.vit import ViT

KIND = "vit_s16"


@pytest.fixture
def small(monkeypatch):
    """Of the same make, with a grid of 4x4."""
    monkeypatch.setattr(vit, "SIDE", 16)
    sizes = {KIND: vit.Size(4, 16, 2, 3), "clip_b32": vit.Size(4, 16, 2, 3)}
    monkeypatch.setattr(vit, "SIZES", sizes)
    return EncoderConfig(KIND)


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize(
    ("kind", "millions"), [("vit_s16", 21.67), ("vit_b16", 85.80), ("clip_b32", 87.45), ("clip_l14", 303.18)]
)
def test_as_many_parameters_as_published(kind, millions):
    """Without head, projection, and CLIP's norm of the class token: 2 D parameters less than its image tower."""
    made = nnx.state(nnx.eval_shape(lambda: ViT(EncoderConfig(kind), rngs=nnx.Rngs(0))), nnx.Param)
    assert sum(leaf.size for leaf in jax.tree.leaves(made)) / 1e6 == pytest.approx(millions, abs=0.01)


@pytest.mark.parametrize("kind", [KIND, "clip_b32"])
def test_patches_that_move_with_their_places_give_cells_that_move(small, kind):
    net = ViT(dataclasses.replace(small, kind=kind), rngs=nnx.Rngs(0))
    images = normal(0, 2, 16, 16, 3)
    before = net(images).reshape(2, 16, -1)
    order = np.random.default_rng(0).permutation(16)
    patches = images.reshape(2, 4, 4, 4, 4, 3).transpose(0, 1, 3, 2, 4, 5).reshape(2, 16, 4, 4, 3)[:, order]
    moved = patches.reshape(2, 4, 4, 4, 4, 3).transpose(0, 1, 3, 2, 4, 5).reshape(2, 16, 16, 3)
    net.positions[...] = jnp.concatenate([net.positions[...][:1], net.positions[...][1:][order]])
    np.testing.assert_allclose(net(moved).reshape(2, 16, -1), before[:, order], rtol=1e-4, atol=1e-5)


def test_a_patch_is_projected_as_by_a_strided_convolution(small):
    net = ViT(dataclasses.replace(small, ends_after=1), rngs=nnx.Rngs(0))
    images = normal(0, 2, 16, 16, 3)
    kernel = net.patches.kernel[...].reshape(4, 4, 3, 16)
    expected = jax.lax.conv_general_dilated(images, kernel, (4, 4), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    found = net.patches(vit.space_to_depth(images, 4))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_it_may_end_early(small):
    whole, early = ViT(small, rngs=nnx.Rngs(0)), ViT(dataclasses.replace(small, ends_after=2), rngs=nnx.Rngs(0))
    assert len(early.blocks) == 2
    assert early.norm is None
    nnx.update(early, {k: v for k, v in nnx.state(whole).items() if k in ("patches", "class_token", "positions")})
    for i in range(2):
        nnx.update(early.blocks[i], nnx.state(whole.blocks[i]))
    images = normal(0, 1, 16, 16, 3)
    np.testing.assert_allclose(early(images), whole.stages(images)[1], rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="has 3 blocks and cannot end after 4"):
        ViT(dataclasses.replace(small, ends_after=4), rngs=nnx.Rngs(0))


def test_places_of_another_grid_lie_between_the_learned_ones(small):
    net = ViT(small, rngs=nnx.Rngs(0))
    rows = jnp.broadcast_to(jnp.arange(4.0)[:, None, None], (4, 4, 16)).reshape(16, 16)
    net.positions[...] = jnp.concatenate([jnp.full((1, 16), 9.0), rows])
    np.testing.assert_array_equal(net.places(4, 4), net.positions[...])
    finer = np.asarray(net.places(8, 4))
    np.testing.assert_array_equal(finer[0], 9.0)
    grid = finer[1:].reshape(8, 4, 16)
    assert (np.diff(grid[:, 0, 0]) > 0).all()  # rows in their order
    np.testing.assert_allclose(grid, grid[:, :1, :1].repeat(4, 1).repeat(16, 2), atol=1e-5)  # and columns alike
    np.testing.assert_allclose(grid[3:5, 0, 0], [1.25, 1.75], atol=1e-2)
    assert net(normal(0, 1, 32, 16, 3)).shape == (1, 8, 4, 16)


def test_an_image_that_does_not_divide_is_refused(small):
    with pytest.raises(ValueError, match="does not divide"):
        ViT(small, rngs=nnx.Rngs(0))(jnp.zeros((1, 18, 16, 3)))
