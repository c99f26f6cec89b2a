"""What learns, when, and how fast; and what does not."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from captioner_jax.config import EncoderConfig, TrainConfig
from captioner_jax.data.features import make_eye
from captioner_jax.data.images import Preprocessing
from captioner_jax.model.captioner import Captioner
from captioner_jax.training.learning import divided, joined
from captioner_jax.training.optimizer import make_optimizer
from captioner_jax.training.step import CrossEntropy, first_state, make_train_step
from tests.training.test_training import MODEL, V, batch

pytestmark = pytest.mark.usefixtures("ordinary_promotion")
RESNET = dataclasses.replace(MODEL, encoder=EncoderConfig("resnet18", ends_after=2, batch_norm="trained"))
CUT = dataclasses.replace(MODEL, encoder=EncoderConfig("resnet18", ends_after=2, frozen_stages=1))
HOW = Preprocessing(16)


def one_step(model, train, encoder_learns=True, steps=1):
    frozen = model.encoder.frozen_stages
    graphdef, variables = nnx.split(Captioner(model, V, rngs=nnx.Rngs(0)))
    before = nnx.to_pure_dict(variables)
    state = first_state(jax.tree.map(jnp.copy, before), make_optimizer(train), train, frozen)
    step = make_train_step(
        graphdef, make_optimizer(train), HOW, train, CrossEntropy(), frozen_stages=frozen, encoder_learns=encoder_learns
    )
    for _ in range(steps):
        state, metrics = step(state, batch())
    return before, state, metrics


def changed(before, after):
    return {
        jax.tree_util.keystr(path)
        for (path, a), b in zip(jax.tree.leaves_with_path(before), jax.tree.leaves(after), strict=True)
        if not np.array_equal(a, b)
    }


def names(tree):
    return {jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(tree)}


def test_what_is_divided_can_be_joined():
    tree = {"a": jnp.ones(2), "b": {0: jnp.zeros(3), 1: jnp.ones(1)}}
    parts = divided(tree, lambda path: path[-1].key == 0)
    assert [len(jax.tree.leaves(part)) for part in parts] == [1, 2]
    jax.tree.map(np.testing.assert_array_equal, joined(*parts), tree)


def test_all_of_a_captioner_learns_and_statistics_are_counted():
    train = TrainConfig(steps=10, warmup=0)
    before, state, _ = one_step(RESNET, train, steps=2)
    assert changed(before, state.parameters) == names(before)
    statistics = [path for path, _ in jax.tree.leaves_with_path(before) if path[-1].key in ("mean", "variance")]
    assert statistics
    learned, _ = divided(before, lambda path: path[-1].key not in ("mean", "variance"))
    moments = jax.tree.leaves_with_path(state.optimizer)
    assert len([leaf for _, leaf in moments if leaf.ndim]) == 2 * len(jax.tree.leaves(learned))


def test_a_frozen_encoder_stays_as_it_is_and_costs_no_memory():
    train = TrainConfig(steps=10, warmup=0, encoder_frozen=True, weight_decay=1.0)
    frozen = dataclasses.replace(RESNET, encoder=dataclasses.replace(RESNET.encoder, batch_norm="frozen"))
    before, state, _ = one_step(frozen, train, encoder_learns=False, steps=2)
    assert changed(before["encoder"], state.parameters["encoder"]) == set()
    assert changed(before["decoder"], state.parameters["decoder"]) == names(before["decoder"])
    assert not [
        path for path, _ in jax.tree.leaves_with_path(state.optimizer) if "encoder" in jax.tree_util.keystr(path)
    ]


def test_frozen_stages_stay_as_they_are_and_the_others_learn():
    train = TrainConfig(steps=10, warmup=0, weight_decay=1.0, ema_decay=0.5)
    before, state, _ = one_step(CUT, train, steps=2)
    learned = {name for name in names(before["encoder"]) if "['blocks'][1]" in name}
    statistics = {name for name in learned if name.endswith(("['mean']", "['variance']"))}
    assert changed(before["encoder"], state.parameters["encoder"]) == learned - statistics
    assert changed(before["encoder"], state.best_guess["encoder"]) == learned - statistics
    held = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path((state.optimizer, state.average))]
    held = [name for name in held if "['encoder']" in name]
    assert any("['blocks'][1]" in name for name in held)
    assert not [name for name in held if "['blocks'][0]" in name or "['stem']" in name]


def test_training_from_what_frozen_stages_gave_is_training_on_their_images():
    graphdef, variables = nnx.split(Captioner(CUT, V, rngs=nnx.Rngs(0)))
    parameters, train = nnx.to_pure_dict(variables), TrainConfig(steps=10, warmup=0)
    step = make_train_step(graphdef, make_optimizer(train), HOW, train, CrossEntropy(), frozen_stages=1)
    one = batch()
    kept = np.asarray(make_eye(CUT.encoder, graphdef, parameters, HOW).glance(one.images), np.float16)
    told = []
    for images in (one.images, kept):
        state = first_state(jax.tree.map(jnp.copy, parameters), make_optimizer(train), train, 1)
        _, metrics = step(state, one._replace(images=images))
        told.append((float(metrics.loss), float(metrics.gradient_norm)))
    np.testing.assert_allclose(told[1], told[0], rtol=2e-3)


def test_an_encoder_learns_from_its_first_step_on():
    train = TrainConfig(steps=10, warmup=0, encoder_from=2, weight_decay=1.0)
    graphdef, variables = nnx.split(Captioner(RESNET, V, rngs=nnx.Rngs(0)))
    before = nnx.to_pure_dict(variables)
    state = first_state(jax.tree.map(jnp.copy, before), make_optimizer(train), train)
    frozen, learning = (
        make_train_step(graphdef, make_optimizer(train), HOW, train, CrossEntropy(), encoder_learns=learns)
        for learns in (False, True)
    )
    for _ in range(2):
        state, _ = frozen(state, batch())
    assert changed(before["encoder"], state.parameters["encoder"]) == set()
    state, _ = learning(state, batch())
    assert changed(before["encoder"], state.parameters["encoder"]) == names(before["encoder"])


def moves(train, parameters):
    """How far one update moves each parameter whose gradient is one."""
    optimizer = make_optimizer(train)
    updates, _ = optimizer.update(jax.tree.map(jnp.ones_like, parameters), optimizer.init(parameters), parameters)
    return jax.tree.map(lambda u: float(jnp.abs(u).mean()), updates)


def test_the_encoder_has_its_own_pace():
    parameters = {"encoder": {"layers": {0: {"kernel": jnp.zeros((2, 2))}}}, "decoder": {"kernel": jnp.zeros((2, 2))}}
    plain = TrainConfig(steps=10, warmup=0, clip=1e9, learning_rate=0.1)
    own = dataclasses.replace(plain, encoder_learning_rate=0.01)
    paces = jax.tree.map(lambda a, b: a / b, moves(own, parameters), moves(plain, parameters))
    np.testing.assert_allclose(paces["encoder"]["layers"][0]["kernel"], 0.1, rtol=1e-5)
    np.testing.assert_allclose(paces["decoder"]["kernel"], 1.0, rtol=1e-5)


# Of each kind: the first names of its parameters, and how many stages (or blocks) come after them.
STAGES_ABOVE = {
    "resnet18": {"stem": 4, "blocks.0": 3, "blocks.1": 2, "blocks.3": 0},
    "vgg11": {"convolutions.0": 4, "convolutions.4": 0},
    "densenet121": {"stem": 4, "blocks.0": 3, "transitions.0": 2, "blocks.1": 2, "blocks.3": 0, "norm": 0},
    "vit_s16": {"class_token": 12, "patches": 12, "positions": 12, "blocks.0": 11, "blocks.11": 0, "norm": 0},
    "clip_b32": {"norm_before": 12, "blocks.2": 9, "blocks.11": 0},
}


@pytest.mark.parametrize("kind", STAGES_ABOVE)
def test_lower_stages_of_every_kind_learn_slower(kind):
    model = dataclasses.replace(MODEL, encoder=EncoderConfig(kind, batch_norm="trained"))
    shapes = nnx.to_pure_dict(nnx.state(nnx.eval_shape(lambda: Captioner(model, V, rngs=nnx.Rngs(0)))))["encoder"]
    # A number of each is enough; normalisation scales and the like included.
    parameters = {"encoder": jax.tree.map(lambda _: jnp.zeros(1), shapes)}
    slower = TrainConfig(steps=10, warmup=0, clip=1e9, learning_rate=0.1, encoder_layer_decay=0.5)
    plain = dataclasses.replace(slower, encoder_layer_decay=1.0)
    paces = jax.tree.map(lambda a, b: a / b, moves(slower, parameters), moves(plain, parameters))["encoder"]
    found = set()
    for path, pace in jax.tree.leaves_with_path(paces):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        for beginning, above in STAGES_ABOVE[kind].items():
            if name.startswith(beginning + ".") or name == beginning:
                np.testing.assert_allclose(pace, 0.5**above, rtol=1e-5, err_msg=name)
                found.add(beginning)
    assert found == STAGES_ABOVE[kind].keys()


def test_an_encoder_with_its_own_pace_does_not_learn_by_muon():
    parameters = {
        "encoder": {"blocks": {0: {"kernel": jnp.zeros((4, 4))}}},
        "decoder": {"kernel": jnp.zeros((4, 4))},
    }
    adamw = TrainConfig(steps=10, warmup=0, clip=1e9, learning_rate=0.1, encoder_learning_rate=0.01)
    muon = dataclasses.replace(adamw, matrix_learning_rate=0.1)
    a, b = moves(adamw, parameters), moves(muon, parameters)
    assert a["encoder"] == b["encoder"]
    assert a["decoder"] != b["decoder"]


def test_training_on_kept_cells_is_training_on_their_images():
    train = TrainConfig(steps=10, warmup=0, encoder_frozen=True)
    graphdef, variables = nnx.split(Captioner(MODEL, V, rngs=nnx.Rngs(0)))
    parameters = nnx.to_pure_dict(variables)
    step = make_train_step(graphdef, make_optimizer(train), HOW, train, CrossEntropy(), encoder_learns=False)
    one = batch()
    cells = np.asarray(make_eye(MODEL.encoder, graphdef, parameters, HOW).glance(one.images), np.float16)
    losses = []
    for images in (one.images, cells):
        state = first_state(jax.tree.map(jnp.copy, parameters), make_optimizer(train), train)
        _, metrics = step(state, one._replace(images=images))
        losses.append((float(metrics.loss), float(metrics.gradient_norm)))
    np.testing.assert_allclose(losses[1], losses[0], rtol=2e-3)


def test_statistics_are_averaged_too():
    train = TrainConfig(steps=10, warmup=0, ema_decay=0.3)
    before, state, _ = one_step(RESNET, train)
    share = min(0.3, 1 / 10)  # of what was before, at the first step
    mean = jax.tree.map(lambda old, new: share * old + (1 - share) * new, before, state.parameters)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), state.best_guess, mean)


def test_of_an_encoder_that_does_not_learn_yet_nothing_is_remembered():
    train = TrainConfig(steps=10, warmup=0, encoder_from=5)
    _, state, metrics = one_step(MODEL, train, encoder_learns=False, steps=2)
    assert metrics.norms["encoder"] == 0
    moments = [x for path, x in jax.tree.leaves_with_path(state.optimizer) if "encoder" in jax.tree_util.keystr(path)]
    assert moments
    assert not any(np.asarray(x).any() for x in moments)
