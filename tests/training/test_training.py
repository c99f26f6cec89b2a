"""Loss, optimizer and step."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from captioner_jax.config import EncoderConfig, ModelConfig, TrainConfig
from captioner_jax.data.features import cells_of
from captioner_jax.data.images import Preprocessing
from captioner_jax.data.pipeline import Batch
from captioner_jax.errors import UserError
from captioner_jax.model.captioner import Captioner
from captioner_jax.model.rematerialisation import rematerialise
from captioner_jax.text.special import END, PAD, START
from captioner_jax.training import step as step_module
from captioner_jax.training.loss import PART, masked_sum, sum_by_parts, token_losses
from captioner_jax.training.optimizer import make_optimizer
from captioner_jax.training.progress import Progress
from captioner_jax.training.step import (
    Counts,
    CrossEntropy,
    Metrics,
    caption_loss,
    first_state,
    make_evaluation_step,
    make_train_step,
)

MODEL = ModelConfig(width=32, heads=2, feed_forward=64, layers=1, encoder=EncoderConfig("convnet", 4, (16, 32), (0, 1)))
HOW = Preprocessing(16)
V, T = 12, 6


def batch(captions=1, images=4):
    rng = np.random.default_rng(0)
    tokens = np.full((images, captions, T + 1), PAD, np.int32)
    tokens[:, :, 0] = START
    for row in tokens.reshape(-1, T + 1):
        length = rng.integers(2, T)
        row[1:length] = rng.integers(4, V, length - 1)
        row[length] = END
    pixels = rng.integers(0, 255, (images, 16, 16, 3), dtype=np.uint8)
    return Batch(pixels, tokens, np.ones(images, bool), np.arange(images))


def begin(train, model=MODEL):
    graphdef, parameters = nnx.split(Captioner(model, V, rngs=nnx.Rngs(0)))
    state = first_state(nnx.to_pure_dict(parameters), make_optimizer(train), train)
    return (
        graphdef,
        state,
        make_train_step(graphdef, make_optimizer(train), HOW, train, CrossEntropy(train.label_smoothing)),
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_equals_optax(smoothing):
    logits = jax.random.normal(jax.random.key(0), (2, 5, V)) * 3
    targets = jax.random.randint(jax.random.key(1), (2, 5), 0, V)
    labels = optax.smooth_labels(jax.nn.one_hot(targets, V), smoothing)
    expected = optax.softmax_cross_entropy(logits, labels)
    np.testing.assert_allclose(token_losses(logits, targets, smoothing), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_logits_that_are_never_all_there_have_the_same_loss(smoothing):
    """More positions than one part, and no multiple of it; gradients too. The way back holds nothing of their size."""
    x, embedding = (jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate([(3, PART + 3, 4), (200, 4)]))
    targets = jax.random.randint(jax.random.key(2), x.shape[:2], 0, len(embedding))
    is_word = targets % 5 > 0
    logits = lambda x, embedding: jnp.einsum("btd,vd->btv", x, embedding)
    plain = lambda x, e: masked_sum(token_losses(logits(x, e), targets, smoothing), is_word)[0]
    parted = lambda x, e: sum_by_parts(lambda x: logits(x, e), x, targets, is_word, smoothing)
    (loss, gradients), (same_loss, same) = (
        jax.jit(jax.value_and_grad(f, (0, 1)))(x, embedding) for f in (plain, parted)
    )
    np.testing.assert_allclose(same_loss, loss, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5), gradients, same)
    sizes = [{leaf.size for leaf in jax.tree.leaves(jax.vjp(f, x, embedding)[1])} for f in (plain, parted)]
    assert max(sizes[0]) >= logits(x, embedding).size > 2 * max(sizes[1])


def test_padding_weighs_nothing():
    losses, is_word = jnp.array([[1.0, 2.0, jnp.nan]]), jnp.array([[True, True, False]])
    assert tuple(map(float, masked_sum(losses, is_word))) == (3.0, 2.0)


def test_the_mean_is_over_words_not_over_captions():
    graphdef, state, _ = begin(TrainConfig(steps=2))
    whole = batch()
    step = make_evaluation_step(graphdef, HOW)
    total, words = step(state.parameters, whole)
    parts = [Batch(*(x[i : i + 1] for x in whole)) for i in range(4)]
    sums = [step(state.parameters, part) for part in parts]
    np.testing.assert_allclose(total, sum(s for s, _ in sums), rtol=1e-5)
    assert float(words) == sum(float(n) for _, n in sums) == (whole.tokens[:, :, 1:] != PAD).sum()


def test_an_unusable_row_changes_no_gradient():
    graphdef, state, _ = begin(TrainConfig(steps=2))
    good = batch(images=3)
    nothing = np.zeros((1, 16, 16, 3), np.uint8), np.full((1, 1, T + 1), PAD, np.int32)
    row = Batch(*nothing, np.zeros(1, bool), np.zeros(1, int))
    padded = Batch(*(np.concatenate(pair) for pair in zip(good, row, strict=True)))

    def mean(parameters, shown):
        captioner = nnx.merge(graphdef, parameters)
        total, words = caption_loss(captioner, cells_of(captioner, shown.images, HOW), jnp.asarray(shown.tokens))
        return total / words

    for a, b in zip(
        *(jax.tree.leaves(jax.jit(jax.grad(mean))(state.parameters, x)) for x in (good, padded)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("ordinary_promotion")
def test_one_batch_is_learned_by_heart():
    train = TrainConfig(steps=150, warmup=10, learning_rate=3e-3, batch_size=4)
    _, state, step = begin(train)
    one = batch(captions=2)
    for _ in range(150):
        state, metrics = step(state, one)
    # Two captions of one image share their beginnings, between which nothing decides.
    assert float(metrics.loss) < 0.4


@pytest.mark.usefixtures("ordinary_promotion")
def test_a_step_is_a_function_of_its_number():
    train = TrainConfig(steps=10, warmup=2)
    model = ModelConfig(width=32, heads=2, feed_forward=64, layers=1, dropout=0.5, encoder=MODEL.encoder)
    losses = []
    for _ in range(2):
        _, state, step = begin(train, model)
        run = []
        for _ in range(4):
            state, metrics = step(state, batch())
            run.append(float(metrics.loss))
            # What parts of a captioner are told of makes up the whole.
            assert metrics.norms.keys() == {"encoder", "blocks", "embedding"}
            np.testing.assert_allclose(np.hypot.reduce(list(metrics.norms.values())), metrics.gradient_norm, rtol=1e-5)
        losses.append(run)
    assert losses[0] == losses[1]


@pytest.mark.usefixtures("ordinary_promotion")
def test_a_batch_in_parts_is_the_batch():
    """Also where parts hold unlike numbers of words; gradients are what the first step of momentum keeps."""
    rows = batch(captions=2, images=6)
    rows.tokens[1], rows.usable[1] = PAD, False
    found = []
    for accumulate in (1, 3):
        train = TrainConfig(steps=10, warmup=0, batch_size=6, accumulate=accumulate)
        graphdef, parameters = nnx.split(Captioner(MODEL, V, rngs=nnx.Rngs(0)))
        momentum = optax.sgd(0.1, 0.9)
        state = first_state(nnx.to_pure_dict(parameters), momentum, train)
        found.append(jax.tree.leaves(make_train_step(graphdef, momentum, HOW, train, CrossEntropy())(state, rows)))
    for whole, parts in zip(*found, strict=True):
        np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("ordinary_promotion")
def test_bfloat16_gives_float32s_step_but_for_its_rounding():
    """Numbers are rounded by 2^-9 of them at most, some hundred times on the way to a gradient: by chance that makes
    ten times as much, and sixteen are allowed. The loss is a mean, in which they cancel. Also of a batch in parts.
    """
    rows, found = batch(captions=2, images=6), []
    for precision, accumulate in (("float32", 1), ("bfloat16", 3)):
        train = TrainConfig(steps=10, warmup=0, batch_size=6, precision=precision, accumulate=accumulate)
        graphdef, parameters = nnx.split(Captioner(MODEL, V, rngs=nnx.Rngs(0)))
        momentum = optax.sgd(0.1, 0.9)
        state = first_state(nnx.to_pure_dict(parameters), momentum, train)
        after, metrics = make_train_step(graphdef, momentum, HOW, train, CrossEntropy())(state, rows)
        assert {leaf.dtype.name for leaf in jax.tree.leaves((after, metrics.loss))} == {"float32", "int32"}
        found.append((metrics.loss, after.optimizer))
    (loss, gradients), (rounded_loss, rounded) = found
    np.testing.assert_allclose(rounded_loss, loss, rtol=2**-9)
    error = optax.tree.norm(jax.tree.map(jnp.subtract, rounded, gradients)) / optax.tree.norm(gradients)
    assert 2**-12 < error < 16 * 2**-9


@pytest.mark.usefixtures("ordinary_promotion")
def test_the_average_is_of_the_weights_after_each_step():
    train = TrainConfig(steps=10, warmup=0, ema_decay=0.3)
    _, state, step = begin(train)
    expected = jax.tree.map(np.asarray, state.parameters)
    for t in range(5):
        state, _ = step(state, batch())
        d = min(0.3, (1 + t) / (10 + t))
        expected = jax.tree.map(lambda a, p, d=d: d * a + (1 - d) * np.asarray(p), expected, state.parameters)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), state.best_guess, expected)
    assert not np.allclose(jax.tree.leaves(state.best_guess)[0], jax.tree.leaves(state.parameters)[0])


def test_of_a_frozen_encoder_no_average_is_kept():
    train = TrainConfig(steps=10, ema_decay=0.9, encoder_frozen=True)
    _, state, _ = begin(train)
    assert not jax.tree.leaves(state.average["encoder"])
    assert jax.tree.structure(state.best_guess) == jax.tree.structure(state.parameters)
    assert begin(TrainConfig(steps=10))[1].average is None


def told(*losses):
    return [
        Metrics(jnp.asarray(loss), jnp.asarray(1.0), jnp.asarray(0), ~jnp.isfinite(jnp.asarray(loss)), {}, {})
        for loss in losses
    ]


def test_a_loss_that_is_not_a_number_stops_the_run(tmp_path):
    with Progress(tmp_path, 0, 10, 4) as progress:
        for metrics in told(1.0, float("nan"), 1.0):
            progress.record(metrics)
        with pytest.raises(UserError, match=r"step 2: loss nan.*--train\.learning-rate"):
            progress.tell(1e-3)


def test_nothing_is_saved_before_the_newest_step_is_known_to_be_good(tmp_path):
    with Progress(tmp_path, 0, 10, 4) as progress:
        for metrics in told(1.0, float("inf")):
            progress.record(metrics)
        progress.check()
        with pytest.raises(UserError, match="step 2: loss inf"):
            progress.check(newest=True)


def test_images_that_have_gone_stop_the_run_and_a_few_damaged_ones_do_not(tmp_path):
    """Whose batches have a loss and a gradient of zero."""
    empty = Metrics(jnp.asarray(0.0), jnp.asarray(0.0), jnp.asarray(4), jnp.asarray(False), {}, {})
    with Progress(tmp_path, 0, 30, 4) as progress:
        for metrics in [*told(1.0), *[empty] * 9, *told(1.0), *[empty] * 9]:
            progress.record(metrics)
        progress.check(newest=True)
        progress.record(empty)
        with pytest.raises(UserError, match="step 21: in 10 batches in a row no image could be used"):
            progress.check(newest=True)


def test_skipped_batches_are_said_and_too_many_in_a_row_stop_the_run(tmp_path, capsys):
    with Progress(tmp_path, 0, 30, 4, skips=True) as progress:
        for metrics in told(1.0, float("nan"), 2.0, 5.0):
            progress.record(metrics)
        progress.tell(1e-3)
        out = capsys.readouterr().out
        assert "step 2: loss nan, gradient 1: this batch is skipped" in out
        assert "loss 1.500" in out
        for metrics in told(*[float("nan")] * 9, 1.0, *[float("nan")] * 9, 1.0):
            progress.record(metrics)
        progress.tell(1e-3)
        for metrics in told(*[float("nan")] * 11):
            progress.record(metrics)
        with pytest.raises(UserError, match="the 10th bad batch in a row"):
            progress.tell(1e-3)


@pytest.mark.usefixtures("ordinary_promotion")
def test_a_batch_that_is_skipped_changes_nothing_but_the_steps_number_and_with_it_the_learning_rate():
    train = TrainConfig(steps=10, warmup=0, ema_decay=0.5, bad_batches="skip")
    _, state, step = begin(train)
    cells = jnp.ones((4, 2, 2, 32), jnp.float16)
    state, metrics = step(state, batch()._replace(images=cells))
    assert not metrics.bad
    before = jax.tree.map(jnp.copy, state)
    state, metrics = step(state, batch()._replace(images=cells.at[0, 0, 0].set(jnp.nan)))
    assert metrics.bad
    is_count = lambda node: isinstance(node, optax.ScaleByScheduleState)
    counts = lambda state: [int(one.count) for one in jax.tree.leaves(state, is_leaf=is_count) if is_count(one)]
    assert int(state.step) == 2
    assert counts(before) == [1, 1]
    assert counts(state) == [2, 2]
    changes = [not np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (before, state)), strict=True)]
    assert sum(changes) == 3


@pytest.mark.usefixtures("ordinary_promotion")
def test_a_gradient_as_long_as_a_spike_is_bad():
    bad = []
    for spike in (None, 1e-3):
        _, state, step = begin(TrainConfig(steps=10, spike=spike))
        bad.append(bool(step(state, batch())[1].bad))
    assert bad == [False, True]


DROPS = dataclasses.replace(MODEL, dropout=0.5)
STILL = TrainConfig(steps=100, warmup=0, learning_rate=1e-30, weight_decay=0.0)
"""Of a captioner that does not change, losses differ by what is dropped alone."""


@pytest.mark.usefixtures("ordinary_promotion")
def test_every_step_drops_others_and_another_seed_too():
    graphdef, state, step = begin(STILL, DROPS)
    nothing_dropped, words = make_evaluation_step(graphdef, HOW)(state.parameters, batch())
    losses = {float(nothing_dropped / words)}
    for _ in range(3):
        state, metrics = step(state, batch())
        losses.add(float(metrics.loss))
    _, state, step = begin(dataclasses.replace(STILL, seed=1), DROPS)
    losses.add(float(step(state, batch())[1].loss))
    assert len(losses) == 5


@pytest.mark.usefixtures("ordinary_promotion")
def test_parts_of_a_batch_drop_others():
    """Twice the same row, a part each: the loss is the mean of what two keys give, and these differ."""
    alike = jax.tree.map(lambda x: x[[0, 0]], batch())
    graphdef, state, step = begin(dataclasses.replace(STILL, accumulate=2, batch_size=2), DROPS)
    part, captioner = jax.tree.map(lambda x: x[:1], alike), nnx.merge(graphdef, state.parameters)
    cells, keys = cells_of(captioner, part.images, HOW), jax.random.split(jax.random.fold_in(jax.random.key(0), 0), 2)
    one, other = (CrossEntropy()(captioner, cells, part, Counts.of(part), key)[0] for key in keys)
    assert one != other
    np.testing.assert_allclose(step(state, alike)[1].loss, (one + other) / 2, rtol=1e-5)


@pytest.mark.usefixtures("ordinary_promotion")
def test_blocks_are_computed_again_where_that_is_asked_for(monkeypatch):
    asked = []
    monkeypatch.setattr(step_module, "rematerialise", asked.append)
    for remat in (False, True):
        _, state, step = begin(TrainConfig(steps=10, remat=remat))
        step(state, batch())
        assert bool(asked) == remat


def test_labels_are_smoothed_alike_where_logits_come_by_parts():
    losses, tokens = [], jnp.asarray(batch().tokens)
    for by_parts in (False, True):
        captioner = Captioner(MODEL, V, rngs=nnx.Rngs(0))
        if by_parts:
            rematerialise(captioner)
        losses.append(caption_loss(captioner, captioner.see(jnp.ones((4, 16, 16, 3))), tokens, 0.3)[0])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
