"""Batch normalisation and convolution, against their formulas."""

import math
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from captioner_jax.model.convolutions import BatchNorm, Conv, ConvNorm, convolve, fold_norms, max_pool

TRAINING = nnx.Rngs(0)


def cells(*shape, seed=0):
    """Channels of unlike means and spreads."""
    rng = np.random.default_rng(seed)
    means, spreads = rng.normal(size=shape[-1]), rng.uniform(0.5, 2, shape[-1])
    return jnp.asarray(means + spreads * rng.normal(size=shape), jnp.float32)


def unlike(norm, seed=0):
    """The norm with scales, biases and statistics drawn at random."""
    rng = np.random.default_rng(seed)
    for variable in (norm.scale, norm.bias, norm.mean, norm.variance):
        variable[...] = jnp.asarray(rng.uniform(0.5, 1.5, variable.shape), jnp.float32)
    return norm


def by_hand(x, norm, mean, variance):
    x, scale, bias, mean, variance = (
        np.asarray(value, np.float64) for value in (x, norm.scale[...], norm.bias[...], mean, variance)
    )
    return (x - mean) / np.sqrt(variance + 1e-5) * scale + bias


def convolved(x, kernel, stride, padding):
    sizes = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), [(padding, padding)] * 2, dimension_numbers=sizes)


def statistics(module):
    return jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(module, nnx.BatchStat)))


def test_training_normalises_by_the_batch_and_the_running_statistics_follow():
    norm = unlike(BatchNorm(6, trained=True))
    mean, variance = np.asarray(norm.mean[...], np.float64), np.asarray(norm.variance[...], np.float64)
    for step in range(3):
        x = cells(4, 5, 3, 6, seed=step)
        flat = np.asarray(x, np.float64).reshape(-1, 6)
        mean = 0.9 * mean + 0.1 * flat.mean(0)
        variance = 0.9 * variance + 0.1 * flat.var(0, ddof=1)
        np.testing.assert_allclose(norm(x, TRAINING), by_hand(x, norm, flat.mean(0), flat.var(0)), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(norm.mean[...], mean, rtol=1e-5)
        np.testing.assert_allclose(norm.variance[...], variance, rtol=1e-5)


def test_the_gradient_by_the_batch_is_the_papers():
    """Ioffe and Szegedy 2015, section 3: the chain rule through mean and variance, in float64."""
    norm = unlike(BatchNorm(6, trained=True))
    x, slope = cells(4, 5, 3, 6), cells(4, 5, 3, 6, seed=1)
    graphdef, variables = nnx.split(norm)
    variables = nnx.to_pure_dict(variables)
    _, back = jax.vjp(lambda x: nnx.merge(graphdef, variables)(x, nnx.Rngs(0)), x)
    flat, dy = (np.asarray(a, np.float64).reshape(-1, 6) for a in (x, slope))
    mean, variance, n = flat.mean(0), flat.var(0) + 1e-5, len(flat)
    d_normal = dy * np.asarray(norm.scale[...])
    d_variance = (d_normal * (flat - mean)).sum(0) * -0.5 * variance**-1.5
    d_mean = -d_normal.sum(0) * variance**-0.5 + d_variance * (-2 * (flat - mean)).sum(0) / n
    expected = d_normal * variance**-0.5 + d_variance * 2 * (flat - mean) / n + d_mean / n
    np.testing.assert_allclose(back(slope)[0].reshape(-1, 6), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("trained", "rngs"), [(True, None), (False, None), (False, TRAINING)])
def test_else_it_goes_by_the_running_statistics_and_leaves_them(trained, rngs):
    norm = unlike(BatchNorm(6, trained=trained))
    before = statistics(norm)
    x = cells(2, 5, 3, 6)
    np.testing.assert_allclose(
        norm(x, rngs), by_hand(x, norm, norm.mean[...], norm.variance[...]), rtol=1e-5, atol=1e-5
    )
    jax.tree.map(np.testing.assert_array_equal, statistics(norm), before)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(("size", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2), (7, 2)])
def test_folded_equals_normalised_after_the_convolution(size, stride, biased):
    layer = ConvNorm(4, 6, size, stride=stride, biased=biased, trained=False, rngs=nnx.Rngs(0))
    unlike(layer.norm)
    bias = 0
    if layer.bias is not None:
        bias = layer.bias[...] = jnp.arange(6, dtype=jnp.float32)
    x = cells(2, 9, 8, 4)
    after = np.asarray(convolved(x, layer.kernel[...], stride, size // 2)) + np.asarray(bias)
    expected = by_hand(after, layer.norm, layer.norm.mean[...], layer.norm.variance[...])
    np.testing.assert_allclose(layer(x, TRAINING), expected, rtol=1e-5, atol=1e-5)
    fold_norms(layer)
    assert not jax.tree.leaves(nnx.variables(layer, nnx.BatchStat))
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("biased", [False, True])
def test_trained_the_norm_takes_what_the_convolution_gives_with_its_bias(biased):
    layer = ConvNorm(4, 6, 3, biased=biased, trained=True, rngs=nnx.Rngs(0))
    if layer.bias is not None:
        layer.bias[...] = jnp.arange(6, dtype=jnp.float32)
    x = cells(2, 9, 8, 4)
    after = np.asarray(convolved(x, layer.kernel[...], 1, 1)) + (np.arange(6) if biased else 0)
    flat = after.reshape(-1, 6)
    expected = by_hand(after, layer.norm, flat.mean(0), flat.var(0))
    np.testing.assert_allclose(layer(x, TRAINING), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(layer.norm.mean[...], 0.1 * flat.mean(0), rtol=1e-4, atol=1e-5)


def test_statistics_come_out_of_a_compiled_step_beside_the_gradient():
    x = cells(4, 6, 5, 3)
    make = lambda: ConvNorm(3, 8, 3, trained=True, rngs=nnx.Rngs(0))
    graphdef, *variables = nnx.split(make(), nnx.Param, nnx.BatchStat)
    parameters, running = map(nnx.to_pure_dict, variables)

    @jax.jit
    def step(parameters, running):
        def loss(parameters):
            layer = nnx.merge(graphdef, parameters, running)
            return jnp.sum(layer(x, nnx.Rngs(0)) ** 3), nnx.to_pure_dict(nnx.state(layer, nnx.BatchStat))

        return jax.grad(loss, has_aux=True)(parameters)

    gradient, learnt = step(parameters, step(parameters, running)[1])
    eager = make()
    for _ in range(2):
        eager(x, TRAINING)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), learnt, statistics(eager))
    assert not np.allclose(learnt["norm"]["mean"], 0, atol=1e-3)
    # As the batch is centred and scaled anyway, a kernel cannot make its output longer: no gradient along itself.
    kernel, slope = np.asarray(eager.kernel[...]), np.asarray(gradient["kernel"])
    along = (kernel * slope).sum((0, 1, 2)) / np.linalg.norm(kernel.reshape(-1, 8), axis=0)
    assert np.abs(along).max() < 1e-3 * np.linalg.norm(slope)


def test_frozen_statistics_leave_scale_and_bias_to_learn():
    layer = ConvNorm(3, 8, 3, trained=False, rngs=nnx.Rngs(0))
    graphdef, parameters, running = nnx.split(layer, nnx.Param, nnx.BatchStat)
    x = cells(2, 6, 5, 3)
    slopes = jax.grad(lambda p: jnp.sum(nnx.merge(graphdef, p, running)(x, nnx.Rngs(0)) ** 2))(parameters)
    assert all(np.abs(leaf).min() > 0 for leaf in jax.tree.leaves(nnx.to_pure_dict(slopes)["norm"]))


def test_statistics_of_half_precision_are_taken_in_float32():
    x = jnp.asarray(300 + 4 * cells(8, 16, 16, 2), jnp.bfloat16)
    norm = BatchNorm(2, trained=True)
    y = norm(x, TRAINING)
    assert y.dtype == jnp.bfloat16
    flat = np.asarray(x, np.float64).reshape(-1, 2)
    np.testing.assert_allclose(norm.mean[...], 0.1 * flat.mean(0), rtol=1e-5)
    np.testing.assert_allclose(norm.variance[...], 0.9 + 0.1 * flat.var(0, ddof=1), rtol=1e-4)
    assert ConvNorm(2, 3, 3, trained=False, rngs=nnx.Rngs(0))(x).dtype == jnp.bfloat16


@pytest.mark.parametrize("stride", [1, 2])
def test_a_1x1_convolution_is_a_product(stride):
    x, kernel = cells(2, 7, 6, 5), cells(1, 1, 5, 4)
    np.testing.assert_allclose(convolve(x, kernel, stride), convolved(x, kernel, stride, 0), rtol=1e-5, atol=1e-5)


def test_the_gradient_of_max_pooling_goes_to_the_largest():
    x = np.random.default_rng(0).permutation(2 * 7 * 6 * 3).reshape(2, 7, 6, 3).astype(np.float32) - 300
    pool = lambda x: max_pool(x, 3, stride=2, padding=1)
    slope = jax.grad(lambda x: jnp.sum(pool(x)))(jnp.asarray(x))
    expected, windows = np.zeros_like(x), np.zeros((2, 4, 3, 3), np.float32)
    for b, i, j, c in np.ndindex(windows.shape):
        y, left = slice(max(2 * i - 1, 0), 2 * i + 2), slice(max(2 * j - 1, 0), 2 * j + 2)
        windows[b, i, j, c] = x[b, y, left, c].max()
        expected[b, y, left, c] += x[b, y, left, c] == windows[b, i, j, c]
    np.testing.assert_array_equal(pool(jnp.asarray(x)), windows)
    np.testing.assert_array_equal(slope, expected)


def test_kernels_begin_as_he_drew_them():
    kernel = np.asarray(Conv(64, 128, 3, rngs=nnx.Rngs(0)).kernel[...])
    assert kernel.shape == (3, 3, 64, 128)
    np.testing.assert_allclose(kernel.std(), math.sqrt(2 / (9 * 128)), rtol=0.02)


PROGRAM = """
import jax, numpy as np
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from captioner_jax.model.convolutions import ConvNorm

graphdef, state = nnx.split(ConvNorm(3, 8, 3, trained=True, rngs=nnx.Rngs(0)))
x = np.random.default_rng(0).normal(np.arange(16)[:, None, None, None], 1, (16, 6, 6, 3)).astype(np.float32)

@jax.jit
def step(state, x):
    layer = nnx.merge(graphdef, state)
    return layer(x, nnx.Rngs(0)), nnx.to_pure_dict(nnx.state(layer, nnx.BatchStat))

mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
spread = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
assert len(spread.addressable_shards) == 8 and spread.addressable_shards[0].data.shape[0] == 2
one, eight = step(state, x), step(state, spread)
jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), one, eight)
assert np.ptp(np.asarray(one[1]["norm"]["mean"])) > 0.1
"""


@pytest.mark.slow
def test_eight_devices_find_the_statistics_of_one(pytestconfig):
    """Each device holds two images, brighter than those of the one before: on its own it would find others."""
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    environment = os.environ | flags | {"PYTHONPATH": str(pytestconfig.rootpath)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
