"""Schedule, AdamW and Muon."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from captioner_jax.config import EncoderConfig, ModelConfig, TrainConfig
from captioner_jax.model.captioner import Captioner
from captioner_jax.training.optimizer import ITERATIONS, make_optimizer, orthogonal, schedule

pytestmark = pytest.mark.usefixtures("ordinary_promotion")


def updates_of(train, parameters, gradients):
    optimizer = make_optimizer(train)
    return optimizer.update(gradients, optimizer.init(parameters), parameters)[0]


def test_the_learning_rate_rises_then_falls_to_zero():
    rate = schedule(TrainConfig(steps=100, warmup=20, learning_rate=1e-3))
    values = np.array([float(rate(i)) for i in range(101)])
    assert values[0] == 0
    assert values.argmax() == 20
    np.testing.assert_allclose(values[20], 1e-3, rtol=1e-6)
    np.testing.assert_allclose(values[60], 0.5e-3, rtol=1e-5)
    np.testing.assert_allclose(values[100], 0, atol=1e-9)


@pytest.mark.parametrize("matrix_learning_rate", [None, 0.1])
def test_decay_leaves_biases_and_scales_alone(matrix_learning_rate):
    train = TrainConfig(
        steps=10, warmup=0, weight_decay=0.5, learning_rate=0.1, matrix_learning_rate=matrix_learning_rate
    )
    parameters = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    updates = updates_of(train, parameters, jax.tree.map(jnp.zeros_like, parameters))
    assert (np.asarray(updates["bias"]) == 0).all()
    np.testing.assert_allclose(updates["kernel"], -0.05, rtol=1e-5)


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


def jordan(x):
    """The iteration as published, in float64."""
    x = x / np.linalg.norm(x)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x


def test_muon_equals_the_published_iteration_on_nesterov_momentum():
    rng = np.random.default_rng(1)
    kernel, momentum = rng.normal(size=(24, 12)), np.zeros((24, 12))
    parameters = {"kernel": jnp.asarray(kernel, jnp.float32)}
    train = TrainConfig(steps=10, warmup=0, clip=1e9, weight_decay=0.1, matrix_learning_rate=0.02)
    rate = optax.cosine_decay_schedule(0.02, 10)
    optimizer = make_optimizer(train)
    state = optimizer.init(parameters)
    for step in range(3):
        gradient = rng.normal(size=(24, 12))
        momentum = 0.95 * momentum + 0.05 * gradient
        expected = -float(rate(step)) * (jordan(0.95 * momentum + 0.05 * gradient) + 0.1 * kernel)
        updates, state = optimizer.update({"kernel": jnp.asarray(gradient, jnp.float32)}, state, parameters)
        np.testing.assert_allclose(updates["kernel"], expected, rtol=1e-3, atol=1e-6)


def test_all_heads_of_an_attention_are_one_matrix():
    """From D inputs to H * d outputs, and w_o back."""
    parameters = {"w_q": jnp.zeros((32, 4, 8)), "w_o": jnp.zeros((4, 8, 32))}
    rng = np.random.default_rng(2)
    gradients = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), jnp.float32), parameters)
    train = TrainConfig(steps=10, warmup=0, clip=1e9, weight_decay=0.0, matrix_learning_rate=1.0)
    updates = updates_of(train, parameters, gradients)
    for name in parameters:
        np.testing.assert_allclose(
            np.reshape(updates[name], (32, 32)), -orthogonal(jnp.reshape(gradients[name], (32, 32))), atol=1e-3
        )


def test_embedding_stem_and_vectors_stay_with_adamw():
    model = ModelConfig(width=32, heads=2, feed_forward=64, layers=1, encoder=EncoderConfig(4, (16, 32), (0, 1)))
    parameters = nnx.to_pure_dict(nnx.state(Captioner(model, 12, rngs=nnx.Rngs(0)), nnx.Param))
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
