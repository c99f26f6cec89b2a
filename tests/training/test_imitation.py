"""Learning beside a teacher: its principal components, the objective, and that an encoder learns by it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from captioner_jax.config import SelfCriticalConfig, TrainConfig
from captioner_jax.data.features import cells_of
from captioner_jax.data.views import Lesson
from captioner_jax.model.captioner import Captioner
from captioner_jax.training.imitation import Components, Imitation, principal_components
from captioner_jax.training.optimizer import make_optimizer
from captioner_jax.training.self_critical import SelfCritical
from captioner_jax.training.step import Counts, CrossEntropy, first_state, make_train_step
from tests.training.test_self_critical import Table
from tests.training.test_training import HOW, MODEL, V, batch

CHANNELS = 40


def test_principal_components_are_those_of_the_singular_values():
    rng = np.random.default_rng(0)
    cells = rng.normal(size=(300, 6)) @ np.diag([5, 4, 3, 0.5, 0.2, 0.1]) @ rng.normal(size=(6, 6)) + 7
    found = principal_components(cells.astype(np.float32), 3)
    told = np.asarray(found.of(jnp.asarray(cells, jnp.float32)[:, None, None]))[:, 0, 0]
    u, s, _ = np.linalg.svd(cells - cells.mean(0), full_matrices=False)
    scores = u[:, :3] * s[:3]
    expected = scores / np.sqrt((s[:3] ** 2).mean() / (len(cells) - 1))
    np.testing.assert_allclose(np.abs(told), np.abs(expected), rtol=2e-3, atol=2e-3)
    assert told.var(0, ddof=1).mean() == pytest.approx(1, rel=1e-3)
    assert (np.asarray(found.directions).max(0) >= -np.asarray(found.directions).min(0)).all()
    with pytest.raises(ValueError, match="do not vary"):
        principal_components(np.ones((30, 6), np.float16), 3)


def lesson_batch(images=4):
    rng = np.random.default_rng(1)
    whole = batch(captions=2, images=images)
    return whole._replace(images=Lesson(whole.images, rng.normal(size=(images, 2, 2, CHANNELS)).astype(np.float16)))


def imitation(own=None, weight=3.0):
    rng = np.random.default_rng(2)
    mean, directions = rng.normal(size=CHANNELS), rng.normal(size=(CHANNELS, MODEL.width)) / CHANNELS**0.5
    components = Components(jnp.asarray(mean, jnp.float32), jnp.asarray(directions, jnp.float32))
    return Imitation(own or CrossEntropy(0.1), components, weight)


def told_of(objective, lessons, whole=None):
    captioner = Captioner(MODEL, V, rngs=nnx.Rngs(0))
    cells = cells_of(captioner, lessons.images, HOW)
    return objective(captioner, cells, lessons, whole or Counts.of(lessons), jax.random.key(0))


def test_the_error_of_what_is_foreseen_is_added_to_the_loss():
    lessons, objective = lesson_batch(), imitation()
    loss, told = told_of(objective, lessons)
    alone, _ = told_of(objective.own, lessons)
    captioner, total = Captioner(MODEL, V, rngs=nnx.Rngs(0)), 0.0
    kernel, bias = (np.asarray(captioner.into_memory.kernel), np.asarray(captioner.into_memory.bias))
    cells = np.asarray(cells_of(captioner, lessons.images, HOW))
    mean, directions = (np.asarray(x) for x in (objective.components.mean, objective.components.directions))
    for image in range(4):
        for y in range(2):
            for x in range(2):
                shown = (lessons.images.cells[image, y, x].astype(np.float32) - mean) @ directions
                total += ((cells[image, y, x] @ kernel + bias - shown) ** 2).sum()
    expected = total / (4 * 2 * 2 * MODEL.width)
    np.testing.assert_allclose(told["imitation"], expected, rtol=1e-5)
    np.testing.assert_allclose(told["own_loss"], alone, rtol=1e-6)
    np.testing.assert_allclose(loss, alone + 3 * expected, rtol=1e-5)


def test_shares_of_parts_add_up_and_what_is_of_no_use_weighs_nothing():
    lessons, objective = lesson_batch(), imitation()
    usable = np.array([True, True, False, True])
    empty = np.where(usable[:, None, None], lessons.tokens, 0)
    some = lessons._replace(usable=usable, tokens=empty)
    loss, told = told_of(objective, some)
    parts = [jax.tree.map(lambda x, i=i: x[i : i + 1], some) for i in range(4)]
    shares = [told_of(objective, part, Counts.of(some)) for part in parts]
    np.testing.assert_allclose(sum(share for share, _ in shares), loss, rtol=1e-5)
    without = jax.tree.map(lambda x: x[usable], lessons)
    np.testing.assert_allclose(told["imitation"], told_of(objective, without)[1]["imitation"], rtol=1e-5)


@pytest.mark.usefixtures("ordinary_promotion")
def test_rewards_and_a_teacher_go_together():
    lessons, rewarded = lesson_batch(), SelfCritical(Table(), SelfCriticalConfig(captions=2), 2)
    loss, told = told_of(imitation(rewarded), lessons)
    alone, of_rewards = told_of(rewarded, lessons)
    np.testing.assert_allclose(loss, alone + 3 * told["imitation"], rtol=1e-5)
    assert told.keys() == {*of_rewards, "own_loss", "imitation"}


@pytest.mark.usefixtures("ordinary_promotion")
def test_the_encoder_learns_to_foresee():
    """By what the teacher says alone: no caption says anything."""
    lessons = lesson_batch()
    lessons = lessons._replace(tokens=np.zeros_like(lessons.tokens))
    train = TrainConfig(steps=100, learning_rate=1e-2, warmup=1, weight_decay=0.0)
    graphdef, parameters = nnx.split(Captioner(MODEL, V, rngs=nnx.Rngs(0)))
    state = first_state(nnx.to_pure_dict(parameters), make_optimizer(train), train)
    before = jax.tree.map(np.asarray, state.parameters)
    step = make_train_step(graphdef, make_optimizer(train), HOW, train, imitation())
    errors = []
    for _ in range(100):
        state, metrics = step(state, lessons)
        errors.append(float(metrics.told["imitation"]))
    assert errors[-1] < 0.1 * errors[0]
    moved = jax.tree.map(lambda new, old: bool((np.asarray(new) != old).any()), state.parameters, before)
    assert all(jax.tree.leaves(moved["encoder"]))
    assert not any(jax.tree.leaves(moved["decoder"]))
