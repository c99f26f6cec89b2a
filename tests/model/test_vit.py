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
    sizes = dict.fromkeys([KIND, "clip_b32", "blip_b16"], vit.Size(4, 16, 2, 3, side=16))
    monkeypatch.setattr(vit, "SIZES", sizes)
    return EncoderConfig(KIND)


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def filled(config):
    """A net of random numbers, biases and scales too, so that none of them can hide."""
    graphdef, abstract = nnx.split(nnx.eval_shape(lambda: ViT(config, rngs=nnx.Rngs(0))))
    leaves, tree = jax.tree.flatten(abstract)
    return nnx.merge(
        graphdef, jax.tree.unflatten(tree, [0.3 * normal(i, *leaf.shape) for i, leaf in enumerate(leaves)])
    )


stages = nnx.jit(ViT.stages)


@pytest.mark.parametrize(
    ("kind", "millions"),
    [
        ("vit_s16", 21.67),
        ("vit_b16", 85.80),
        ("clip_b32", 87.45),
        ("clip_b16", 85.80),
        ("clip_l14", 303.18),
        ("blip_b16", 86.09),
        ("blip_l16", 303.69),
    ],
)
def test_as_many_parameters_as_published(kind, millions):
    """Without head, projection, and CLIP's norm of the class token: 2 D parameters less than its image tower."""
    made = nnx.state(nnx.eval_shape(lambda: ViT(EncoderConfig(kind), rngs=nnx.Rngs(0))), nnx.Param)
    assert sum(leaf.size for leaf in jax.tree.leaves(made)) / 1e6 == pytest.approx(millions, abs=0.01)


@pytest.mark.parametrize("kind", [KIND, "clip_b32"])
def test_patches_that_move_with_their_places_give_cells_that_move(small, kind):
    net = filled(dataclasses.replace(small, kind=kind))
    images = normal(0, 2, 16, 16, 3)
    before = stages(net, images)[-1].reshape(2, 16, -1)
    order = np.random.default_rng(0).permutation(16)
    patches = images.reshape(2, 4, 4, 4, 4, 3).transpose(0, 1, 3, 2, 4, 5).reshape(2, 16, 4, 4, 3)[:, order]
    moved = patches.reshape(2, 4, 4, 4, 4, 3).transpose(0, 1, 3, 2, 4, 5).reshape(2, 16, 16, 3)
    net.positions[...] = jnp.concatenate([net.positions[...][:1], net.positions[...][1:][order]])
    np.testing.assert_allclose(stages(net, moved)[-1].reshape(2, 16, -1), before[:, order], rtol=1e-4, atol=1e-5)


def test_a_patch_is_projected_as_by_a_strided_convolution(small):
    net = filled(dataclasses.replace(small, ends_after=1))
    images = normal(0, 2, 16, 16, 3)
    kernel = net.patches.kernel[...].reshape(4, 4, 3, 16)
    expected = jax.lax.conv_general_dilated(images, kernel, (4, 4), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    expected = expected + net.patches.bias[...][None, None, None]
    found = net.patches(vit.space_to_depth(images, 4))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_it_may_end_early(small):
    whole, early = filled(small), filled(dataclasses.replace(small, ends_after=2))
    assert len(early.blocks) == 2
    assert early.norm is None
    nnx.update(early, {k: v for k, v in nnx.state(whole).items() if k in ("patches", "class_token", "positions")})
    for i in range(2):
        nnx.update(early.blocks[i], nnx.state(whole.blocks[i]))
    images = normal(0, 1, 16, 16, 3)
    np.testing.assert_allclose(stages(early, images)[-1], stages(whole, images)[1], rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="has 3 blocks and cannot end after 4"):
        ViT(dataclasses.replace(small, ends_after=4), rngs=nnx.Rngs(0))


def test_places_of_another_grid_lie_between_the_learned_ones(small):
    net = filled(small)
    rows = jnp.broadcast_to(jnp.arange(4.0)[:, None, None], (4, 4, 16)).reshape(16, 16)
    net.positions[...] = jnp.concatenate([jnp.full((1, 16), 9.0), rows])
    np.testing.assert_array_equal(net.places(4, 4), net.positions[...])
    finer = np.asarray(net.places(8, 4))
    np.testing.assert_array_equal(finer[0], 9.0)
    grid = finer[1:].reshape(8, 4, 16)
    assert (np.diff(grid[:, 0, 0]) > 0).all()  # rows in their order
    np.testing.assert_allclose(grid, grid[:, :1, :1].repeat(4, 1).repeat(16, 2), atol=1e-5)  # and columns alike
    assert stages(net, normal(0, 1, 32, 16, 3))[-1].shape == (1, 8, 4, 16)


def test_places_between_four_on_a_parabola_lie_on_it(small):
    """As they do by cubics of a = -0.5 and of no other a, nor by lines (Keys 1981), in finer and in coarser grids."""
    net = filled(small)
    squares = jnp.broadcast_to(jnp.arange(4.0)[:, None, None] ** 2, (4, 4, 16)).reshape(16, 16)
    net.positions[...] = jnp.concatenate([jnp.zeros((1, 16)), squares])
    finer, coarser = (np.asarray(net.places(rows, 4))[1:].reshape(rows, 4, 16)[:, 0, 0] for rows in (8, 3))
    np.testing.assert_allclose(finer[3:5], [1.25**2, 1.75**2], rtol=1e-5)
    np.testing.assert_allclose(coarser[1], 1.5**2, rtol=1e-5)


def test_an_image_that_does_not_divide_is_refused(small):
    with pytest.raises(ValueError, match="does not divide"):
        filled(small)(jnp.zeros((1, 18, 16, 3)))


@pytest.mark.parametrize("kind", [KIND, "blip_b16"])
def test_the_class_token_can_go_before_the_cells(small, kind):
    config = dataclasses.replace(small, kind=kind)
    images = normal(0, 2, 16, 16, 3)
    net = filled(config)
    cells = stages(net, images)
    net.with_class = True
    rows = stages(net, images)
    for grid, row in zip(cells, rows, strict=True):
        assert row.shape == (2, 1, 17, 16)
        np.testing.assert_allclose(row[:, 0, 1:].reshape(grid.shape), grid, rtol=1e-5, atol=1e-6)
    net.class_token[...] += 1.0
    assert np.abs(stages(net, images)[0][:, 0, 0] - rows[0][:, 0, 0]).max() > 1e-2
