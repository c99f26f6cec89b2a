"""Schedule, AdamW and Muon."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from flax import nnx

from captioner_jax.config import EncoderConfig, ModelConfig, TrainConfig
from captioner_jax.model.captioner import Captioner
from captioner_jax.training.optimizer import make_optimizer, orthogonal, schedule

pytestmark = pytest.mark.usefixtures("ordinary_promotion")


def updates_of(train, parameters, gradients):
    optimizer = make_optimizer(train)
    return jax.jit(optimizer.update)(gradients, optimizer.init(parameters), parameters)[0]


def test_the_learning_rate_rises_then_falls_to_zero():
    rate = schedule(TrainConfig(steps=100, warmup=20), 1e-3)
    values = np.array([float(rate(i)) for i in range(101)])
    assert values[0] == 0
    assert values.argmax() == 20
    np.testing.assert_allclose(values[20], 1e-3, rtol=1e-6)
    np.testing.assert_allclose(values[60], 0.5e-3, rtol=1e-5)
    np.testing.assert_allclose(values[100], 0, atol=1e-9)


@pytest.mark.parametrize(("matrix_learning_rate", "decay"), [(None, 0.05), (0.02, 0.01)])
def test_decay_leaves_biases_and_scales_alone(matrix_learning_rate, decay):
    train = TrainConfig(
        steps=10, warmup=0, weight_decay=0.5, learning_rate=0.1, matrix_learning_rate=matrix_learning_rate
    )
    parameters = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    updates = updates_of(train, parameters, jax.tree.map(jnp.zeros_like, parameters))
    assert (np.asarray(updates["bias"]) == 0).all()
    np.testing.assert_allclose(updates["kernel"], -decay, rtol=1e-5)


@pytest.mark.parametrize("shape", [(48, 16), (16, 48), (24, 24)])
def test_an_orthogonal_matrix_keeps_directions_and_evens_lengths(shape):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    u, s, vt = np.linalg.svd(x, full_matrices=False)
    core = u.T @ np.asarray(orthogonal(jnp.asarray(x))) @ vt.T
    lengths = np.diag(core)
    np.testing.assert_allclose(core - np.diag(lengths), 0, atol=1e-4)
    well = s / np.linalg.norm(s) > 0.06
    assert well.sum() >= 15
    assert (lengths[well] > 0.6).all()
    assert (lengths < 1.3).all()


def test_a_nearly_low_rank_matrix_is_not_blown_up():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(128, 4)) @ rng.normal(size=(4, 96)) + 1e-3 * rng.normal(size=(128, 96))
    assert np.linalg.norm(orthogonal(jnp.asarray(x, jnp.float32)), 2) < 1.3


def jordan(x):
    """The iteration as published, in float64, three times."""
    x = x / np.linalg.norm(x)
    for _ in range(3):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x


@pytest.mark.parametrize("shape", [(24, 12), (12, 24)])
def test_muon_equals_the_published_iteration_on_nesterov_momentum(shape):
    rng = np.random.default_rng(1)
    kernel, momentum = rng.normal(size=shape), np.zeros(shape)
    parameters = {"kernel": jnp.asarray(kernel, jnp.float32)}
    train = TrainConfig(steps=10, warmup=2, clip=1e9, weight_decay=0.1, matrix_learning_rate=0.02)
    rates = [0.0, 0.01, 0.02, 0.02 * (1 + np.cos(np.pi / 8)) / 2]
    optimizer = make_optimizer(train)
    state = optimizer.init(parameters)
    for rate in rates:
        gradient = rng.normal(size=shape)
        momentum = 0.95 * momentum + 0.05 * gradient
        wide = max(1, shape[1] / shape[0]) ** 0.5
        expected = -rate * (wide * jordan(0.95 * momentum + 0.05 * gradient) + 0.1 * kernel)
        updates, state = optimizer.update({"kernel": jnp.asarray(gradient, jnp.float32)}, state, parameters)
        np.testing.assert_allclose(updates["kernel"], expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("shape", [(48, 24), (24, 48)])
def test_the_first_update_is_optaxs(shape):
    parameters = {"kernel": jnp.zeros(shape)}
    gradients = {"kernel": jax.random.normal(jax.random.key(0), shape)}
    theirs = optax.contrib.muon(0.1, ns_steps=3, weight_decay=0.0)
    expected, _ = theirs.update(gradients, theirs.init(parameters), parameters)
    train = TrainConfig(steps=10, warmup=0, clip=1e9, weight_decay=0.0, matrix_learning_rate=0.1)
    updates = updates_of(train, parameters, gradients)
    np.testing.assert_allclose(updates["kernel"], expected["kernel"], rtol=1e-4, atol=1e-6)


def tiny_captioner():
    model = ModelConfig(
        width=32, heads=2, feed_forward=64, layers=1, encoder=EncoderConfig("convnet", 4, (16, 32), (0, 1))
    )
    return nnx.to_pure_dict(nnx.state(Captioner(model, 12, rngs=nnx.Rngs(0)), nnx.Param))


def test_every_layer_is_the_matrix_from_its_inputs_to_its_outputs():
    """A layer of attention all heads at once; a convolution its window and channels at once."""
    parameters = tiny_captioner()
    attention = parameters["decoder"]["blocks"][0]["self_attention"]
    inputs = {"w_q": 32, "w_k": 32, "w_v": 32, "w_o": 32}
    for name, (weights, rows) in (
        {name: (attention[name], rows) for name, rows in inputs.items()}
        | {"kernel": (parameters["encoder"]["layers"][1]["conv_1"]["kernel"], 3 * 3 * 32)}
    ).items():
        gradient = jax.random.normal(jax.random.key(1), weights.shape)
        train = TrainConfig(steps=10, warmup=0, clip=1e9, weight_decay=0.0, matrix_learning_rate=1.0)
        update = updates_of(train, {name: weights}, {name: gradient})[name]
        matrix = gradient.reshape(rows, -1)
        np.testing.assert_allclose(update.reshape(rows, -1), -orthogonal(matrix), atol=1e-3)


def test_a_layer_of_unknown_layout_is_refused():
    train = TrainConfig(steps=10, matrix_learning_rate=1.0)
    with pytest.raises(ValueError, match="which axes of"):
        updates_of(train, {"w_new": jnp.ones((2, 3, 4))}, {"w_new": jnp.ones((2, 3, 4))})


def test_embedding_stem_and_vectors_stay_with_adamw():
    parameters = tiny_captioner()
    keys = iter(jax.random.split(jax.random.key(0), 1000))
    gradients = jax.tree.map(lambda p: jax.random.normal(next(keys), p.shape), parameters)
    adamw, both = (
        updates_of(TrainConfig(steps=10, warmup=0, matrix_learning_rate=rate), parameters, gradients)
        for rate in (None, 0.5)
    )
    same = jax.tree_util.tree_map_with_path(
        lambda path, a, b: (jax.tree_util.keystr(path), bool((a == b).all())), adamw, both
    )
    for name, unchanged in jax.tree.leaves(same, is_leaf=lambda leaf: isinstance(leaf, tuple)):
        by_muon = not any(word in name for word in ("embedding", "stem", "bias", "scale"))
        assert unchanged != by_muon, name


def test_of_a_vision_transformer_only_hidden_matrices_are_muons():
    """And biases are not decayed, though those of heads have two axes."""
    model = ModelConfig(width=16, heads=2, feed_forward=16, layers=1, encoder=EncoderConfig("vit_s16", ends_after=1))
    abstract = nnx.to_pure_dict(nnx.state(nnx.eval_shape(lambda: Captioner(model, 9, rngs=nnx.Rngs(0)))))
    parameters = {"encoder": jax.tree.map(lambda p: jnp.ones(p.shape), abstract["encoder"])}
    gradients = jax.tree.map(jnp.zeros_like, parameters)
    decayed = TrainConfig(steps=10, warmup=0, learning_rate=1e-3, weight_decay=1.0, matrix_learning_rate=1e-2)
    moves = jax.tree.leaves_with_path(updates_of(decayed, parameters, gradients))
    pace = {jax.tree_util.keystr(path, simple=True, separator="."): -float(u.mean()) for path, u in moves}
    attention = "encoder.blocks.0.attention"
    muons = [f"{attention}.w_{x}" for x in "qkvo"] + [f"encoder.blocks.0.linear_{i}.kernel" for i in (1, 2)]
    assert {name for name, p in pace.items() if p == pytest.approx(1e-2)} == set(muons)
    assert {name for name, p in pace.items() if p == pytest.approx(1e-3)} == {
        "encoder.patches.kernel",
        "encoder.positions",
    }
    assert pace[f"{attention}.bias.q"] == 0


def test_adamw_is_as_published_on_gradients_that_are_cut_first():
    """Loshchilov and Hutter 2019, algorithm 2, in NumPy; gradients on both sides of the clip."""
    rng = np.random.default_rng(0)
    p, train = (
        rng.normal(size=(3, 4)),
        TrainConfig(steps=10, warmup=2, learning_rate=0.1, beta_2=0.7, weight_decay=0.3, clip=0.5),
    )
    rates = [0.0, 0.05, 0.1, 0.1 * (1 + np.cos(np.pi / 8)) / 2]
    optimizer, parameters = make_optimizer(train), {"kernel": jnp.asarray(p, jnp.float32)}
    state, m, v = optimizer.init(parameters), np.zeros((3, 4)), np.zeros((3, 4))
    for t, (rate, size) in enumerate(zip(rates, (0.1, 5.0, 0.05, 0.2), strict=True), start=1):
        g = rng.normal(size=(3, 4)) * size
        updates, state = optimizer.update({"kernel": jnp.asarray(g, jnp.float32)}, state, parameters)
        g *= min(1, 0.5 / np.linalg.norm(g))
        m, v = 0.9 * m + 0.1 * g, 0.7 * v + 0.3 * g**2
        adam = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.7**t)) + 1e-8)
        np.testing.assert_allclose(updates["kernel"], -rate * (adam + 0.3 * p), rtol=1e-4, atol=1e-6)


def test_a_warm_up_may_last_to_the_last_step():
    rate = schedule(TrainConfig(steps=10, warmup=9), 1.0)
    np.testing.assert_allclose([rate(step) for step in range(10)], np.arange(10) / 9, rtol=1e-6)
