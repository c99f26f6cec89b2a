"""Learning beside a teacher: its principal components, the objective, what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from captioner_jax.config import Config, DataConfig, EncoderConfig, TeacherConfig, TrainConfig
from captioner_jax.data.features import cells_of
from captioner_jax.data.views import Lesson
from captioner_jax.errors import UserError
from captioner_jax.model.captioner import Captioner
from captioner_jax.training.imitation import Components, Imitation, make_teacher, principal_components
from captioner_jax.training.optimizer import make_optimizer
from captioner_jax.training.step import Counts, CrossEntropy, first_state, make_train_step
from tests.pretrained.making import made
from tests.training.test_beginning import FIRST_STAGE
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


def lesson_batch(images=4):
    rng = np.random.default_rng(1)
    whole = batch(captions=2, images=images)
    return whole._replace(images=Lesson(whole.images, rng.normal(size=(images, 2, 2, CHANNELS)).astype(np.float16)))


def imitation(weight=3.0):
    rng = np.random.default_rng(2)
    mean, directions = rng.normal(size=CHANNELS), rng.normal(size=(CHANNELS, MODEL.width)) / CHANNELS**0.5
    components = Components(jnp.asarray(mean, jnp.float32), jnp.asarray(directions, jnp.float32))
    return Imitation(CrossEntropy(0.1), components, weight)


def told_of(objective, lessons, whole=None):
    captioner = Captioner(MODEL, V, rngs=nnx.Rngs(0))
    cells = cells_of(captioner, lessons.images, HOW)
    return objective(captioner, cells, lessons, whole or Counts.of(lessons), jax.random.key(0))


def test_the_error_of_what_is_foreseen_is_added_to_the_loss():
    lessons, objective = lesson_batch(), imitation()
    loss, told = told_of(objective, lessons)
    alone, _ = told_of(objective.otherwise, lessons)
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


@pytest.mark.parametrize(
    ("teacher", "data", "train", "message"),
    [
        ({"weights": None}, {}, {}, "name --teacher.encoder.weights"),
        ({}, {"features": "f"}, {}, "learns from pixels"),
        ({}, {}, {"encoder_frozen": True}, "learns from pixels"),
        ({}, {"randaugment": 5.0}, {}, "leave it out"),
        ({}, {"crop": 0.5}, {}, "more --teacher.views"),
        ({"views": 2}, {}, {}, "name both --data.crop"),
        ({"weights": "not/here.safetensors"}, {}, {}, "teacher: not/here.safetensors"),
        ({"kind": "vgg13"}, {}, {}, "teacher: .*here"),
        ({"kind": "convnet"}, {}, {}, "teacher: .*no weights are published for convnet"),
    ],
)
def test_settings_that_cannot_be_meant_together_are_refused(teacher, data, train, message):
    teacher = {"kind": "vgg11", "weights": "here"} | teacher
    encoder = EncoderConfig(teacher.pop("kind"), weights=teacher.pop("weights"))
    config = Config(
        model=MODEL,
        data=DataConfig(**{"image_size": 16} | data),
        teacher=TeacherConfig("f", encoder, 64, **teacher),
        train=TrainConfig(**train),
    )
    with pytest.raises(UserError, match=message):
        make_teacher(config)


@pytest.mark.parametrize(
    ("size", "width", "message"),
    [(4, 32, "of 4 pixels it makes 4x4 cells, of 16 the captioner makes 2x2"), (2, 128, "64 channels, too few")],
)
def test_cells_that_cannot_be_foreseen_are_refused(tmp_path, size, width, message):
    weights = tmp_path / "vgg11.safetensors"
    safetensors.numpy.save_file({name: made(name, shape) for name, shape in FIRST_STAGE.items()}, weights)
    encoder = EncoderConfig("vgg11", ends_after=1, weights=str(weights))
    model, data = dataclasses.replace(MODEL, width=width), DataConfig(image_size=16)
    teacher = TeacherConfig(str(tmp_path / "features"), encoder, size)
    with pytest.raises(UserError, match=message):
        make_teacher(Config(model=model, data=data, teacher=teacher))


def test_without_a_folder_there_is_no_teacher():
    assert make_teacher(dataclasses.replace(Config(), model=MODEL)) is None
