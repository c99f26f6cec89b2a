"""Positions and the convolutional encoder."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import fft

from captioner_jax.config import EncoderConfig
from captioner_jax.model.convnet import ConvNet, cosines, space_to_depth, whitening_cosines
from captioner_jax.model.position import grid_sinusoids, sinusoids


def test_sinusoids_from_the_formula():
    encoded = np.asarray(sinusoids(jnp.arange(7), 8))
    for pos in range(7):
        for i in range(4):
            angle = pos / 10000 ** (2 * i / 8)
            np.testing.assert_allclose(encoded[pos, [2 * i, 2 * i + 1]], [np.sin(angle), np.cos(angle)], atol=1e-5)


def test_the_product_of_two_positions_depends_on_their_distance():
    encoded = np.asarray(sinusoids(jnp.arange(12), 16), np.float64)
    products = encoded @ encoded.T
    for distance in range(5):
        np.testing.assert_allclose(np.diag(products, distance), products[0, distance], rtol=1e-4)


def test_every_cell_of_a_grid_has_its_own_place():
    places = np.asarray(grid_sinusoids(5, 6, 16))
    assert len(np.unique(places.reshape(30, 16).round(5), axis=0)) == 30
    rows, columns = (np.asarray(sinusoids(jnp.arange(count), 8)) for count in (5, 6))
    np.testing.assert_allclose(places[..., :8], np.broadcast_to(rows[:, None], (5, 6, 8)))
    np.testing.assert_allclose(places[..., 8:], np.broadcast_to(columns[None], (5, 6, 8)))


def test_a_linear_map_of_blocks_is_a_convolution_of_their_size():
    x = jax.random.normal(jax.random.key(0), (2, 8, 12, 3))
    kernel = jax.random.normal(jax.random.key(1), (4, 4, 3, 5))
    expected = jax.lax.conv_general_dilated(x, kernel, (4, 4), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    np.testing.assert_allclose(space_to_depth(x, 4) @ kernel.reshape(-1, 5), expected, rtol=1e-4, atol=1e-4)


def test_cosines_equal_scipy():
    np.testing.assert_allclose(cosines(8), fft.dct(np.eye(8), axis=0, norm="ortho"), atol=1e-12)


def test_a_stem_begins_with_filters_that_share_nothing():
    filters = np.asarray(whitening_cosines(jax.random.key(0), (8, 8, 3, 64))).reshape(-1, 64)
    alike = filters.T @ filters
    lengths = np.diag(alike)
    np.testing.assert_allclose(alike - np.diag(lengths), 0, atol=1e-4)
    assert lengths.min() > 0
    assert (np.diff(lengths) > -1e-4).all()  # the quieter a frequency, the louder its filter


def test_colours_are_taken_to_vary_a_third_as_much():
    filters = np.asarray(whitening_cosines(jax.random.key(0), (1, 1, 3, 3)))[0, 0]
    lengths = np.linalg.norm(filters, axis=0)
    np.testing.assert_allclose(lengths[1:] / lengths[0], 3, rtol=1e-5)
    np.testing.assert_allclose(filters[:, 0], filters[0, 0], rtol=1e-5)  # brightness, which varies most, comes first


def test_a_stem_answers_alike_to_all_frequencies_of_a_natural_spectrum():
    rng = np.random.default_rng(0)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(64), np.fft.fftfreq(64)))
    images = np.fft.ifft2(np.fft.fft2(rng.normal(size=(50, 64, 64))) / np.maximum(frequency, 1 / 64)).real
    patches = images[:, 20:28, 20:28].reshape(50, 64)
    filters = np.asarray(whitening_cosines(jax.random.key(0), (8, 8, 3, 64))).sum(2).reshape(64, 64)
    filters = filters[:, np.abs(filters).sum(0) > 1e-3]  # those of brightness; opponent colours sum to zero
    spreads = [(patches @ kernel).std(0) for kernel in (filters, filters / np.linalg.norm(filters, axis=0))]
    whitened, as_they_come = [spread.max() / spread.min() for spread in spreads]
    assert whitened < 4 < as_they_come


def test_channels_beyond_the_filters_take_the_other_sign():
    filters = np.asarray(whitening_cosines(jax.random.key(0), (2, 2, 3, 24)))
    np.testing.assert_array_equal(filters[..., 12:], -filters[..., :12])


def test_more_channels_than_filters_of_either_sign_are_refused():
    with pytest.raises(ValueError, match="no 25 different filters"):
        whitening_cosines(jax.random.key(0), (2, 2, 3, 25))


def test_sizes_come_from_the_configuration():
    net = ConvNet(EncoderConfig("convnet", 4, (16, 32, 48), (0, 1, 1)), rngs=nnx.Rngs(0))
    assert net(jnp.zeros((2, 64, 32, 3))).shape == (2, 4, 2, 48)


def test_an_image_is_encoded_without_regard_to_others():
    net = ConvNet(EncoderConfig("convnet", 4, (16, 32), (1, 1)), rngs=nnx.Rngs(0))
    images = jax.random.normal(jax.random.key(0), (3, 32, 32, 3))
    np.testing.assert_allclose(net(images)[1:2], net(images[1:2]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "message"), [(((16,), (1, 1)), "1 widths for 2 stages"), (((20,), (1,)), "groups of 16")]
)
def test_sizes_that_do_not_fit_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        ConvNet(EncoderConfig("convnet", 4, *config), rngs=nnx.Rngs(0))


def test_an_image_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="does not divide"):
        space_to_depth(jnp.zeros((1, 9, 8, 3)), 2)


def test_it_is_its_formulas_in_float64():
    """Norms of groups of 16 channels, residual blocks, and what halves the grid, written out."""
    graphdef, state = nnx.split(ConvNet(EncoderConfig("convnet", 4, (32, 48), (1, 1)), rngs=nnx.Rngs(0)))
    rng = np.random.default_rng(0)
    drawn = lambda leaf: rng.normal(size=leaf.shape) / np.sqrt(max(1, leaf.size // leaf.shape[-1]))
    p = jax.tree.map(drawn, nnx.to_pure_dict(state))
    net = nnx.merge(graphdef, jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), p))
    relu = lambda x: np.maximum(x, 0)

    def norm(x, its):
        groups = x.reshape(len(x), -1, x.shape[-1] // 16, 16)
        groups = (groups - groups.mean((1, 3), keepdims=True)) / np.sqrt(groups.var((1, 3), keepdims=True) + 1e-6)
        return groups.reshape(x.shape) * its["scale"] + its["bias"]

    def conv(x, its, stride=1):
        pad = (len(its["kernel"]) - stride) // 2
        x = np.pad(x, [(0, 0), (pad, pad), (pad, pad), (0, 0)])
        windows = np.lib.stride_tricks.sliding_window_view(x, its["kernel"].shape[:2], (1, 2))[:, ::stride, ::stride]
        return np.einsum("byxcuv,uvcd->byxd", windows, its["kernel"]) + its.get("bias", 0)

    def residual(x, its):
        return x + conv(relu(norm(conv(relu(norm(x, its["norm_1"])), its["conv_1"]), its["norm_2"])), its["conv_2"])

    images = rng.normal(size=(2, 16, 24, 3))
    first, halving, last = (p["layers"][i] for i in range(3))
    x = relu(norm(residual(conv(images, p["stem"], 4), first), halving["norm"]))
    x = x.reshape(2, 2, 2, 3, 2, 32).transpose(0, 1, 3, 2, 4, 5).reshape(2, 2, 3, 128)
    x = relu(norm(residual(x @ halving["linear"]["kernel"] + halving["linear"]["bias"], last), p["norm"]))
    np.testing.assert_allclose(net(jnp.asarray(images, jnp.float32)), x, rtol=1e-3, atol=1e-3)
