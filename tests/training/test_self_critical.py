"""Self-critical training: the estimator is the gradient of the expected reward, and training raises the reward."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from captioner_jax.config import EncoderConfig, ModelConfig, SelfCriticalConfig, TrainConfig
from captioner_jax.data.images import Preprocessing, normalise
from captioner_jax.data.pipeline import Batch
from captioner_jax.data.shapes.scene import make_scene
from captioner_jax.data.source import Example, Source
from captioner_jax.errors import UserError
from captioner_jax.evaluation.cider import cider_d
from captioner_jax.evaluation.compiled_bleu import sentence_bleu_4
from captioner_jax.generation.ensemble import alone
from captioner_jax.generation.search import greedy
from captioner_jax.model.captioner import Captioner
from captioner_jax.text import ptb
from captioner_jax.text.compiled_ngrams import filled
from captioner_jax.text.special import END, PAD, START
from captioner_jax.text.tokenizer import train_words
from captioner_jax.training.optimizer import make_optimizer
from captioner_jax.training.rewards import CiderDReward, TruthReward, make_reward
from captioner_jax.training.self_critical import SelfCritical, mean_of_others
from captioner_jax.training.step import Counts, CrossEntropy, first_state, make_train_step

pytestmark = pytest.mark.usefixtures("ordinary_promotion")
V, T = 6, 2  # two words besides the special tokens
MODEL = ModelConfig(width=16, heads=2, feed_forward=16, layers=1, encoder=EncoderConfig("convnet", 4, (16,), (0,)))
EVERY = np.array([[END, PAD], [4, END], [5, END], [4, 4], [4, 5], [5, 4], [5, 5]])
WORTH = np.array([0.3, 2.0, -1.0, 0.5, 1.5, 0.0, 1.0], np.float32)

WORTH_OF = jax.jit(lambda reward, tokens, images: reward(tokens, images))


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Table:
    """A reward that is written down, the second image's twice the first's."""

    def __call__(self, tokens, images):
        is_it = (tokens[:, :, None] == jnp.asarray(EVERY)[None, None]).all(-1)
        return jnp.where(is_it, jnp.asarray(WORTH)[None, None], 0).sum(-1) * (1.0 + images[:, None])


@pytest.fixture(scope="module")
def captioner():
    return Captioner(MODEL, V, rngs=nnx.Rngs(0))


def batch(images=2):
    pixels = np.random.default_rng(0).integers(0, 255, (images, 8, 8, 3), dtype=np.uint8)
    tokens = np.array([[[START, 4, END]]] * images, np.int32)
    return Batch(pixels, tokens, np.ones(images, bool), np.arange(images, dtype=np.int32))


def split(captioner):
    graphdef, state = nnx.split(captioner)
    return graphdef, nnx.to_pure_dict(state)


def told(goal, captioner, cells, batch, key):
    """The objective of a batch that is whole."""
    return goal(captioner, cells, batch, Counts.of(batch), key)


def objective_of(captioner, settings, images=2, reward=None):
    """A function of parameters and key, and cells that it sees."""
    graphdef, parameters = split(captioner)
    cells = captioner.see(jax.random.normal(jax.random.key(1), (images, 8, 8, 3)))
    goal = SelfCritical(reward or Table(), settings, T)
    return (
        lambda parameters, key: goal(
            nnx.merge(graphdef, parameters), cells, batch(images), Counts.of(batch(images)), key
        )[0],
        parameters,
        cells,
    )


def expected_reward(captioner, cells):
    """Exactly, by every caption's probability."""
    graphdef, parameters = split(captioner)

    def value(parameters):
        model = nnx.merge(graphdef, parameters)
        inputs = jnp.concatenate([jnp.full((len(EVERY), 1), START), jnp.asarray(EVERY)[:, :1]], axis=1)
        total = 0.0
        for image in range(len(cells)):
            memory = model.memory(jnp.repeat(cells[image][None], len(EVERY), axis=0))
            logits = model.decoder(inputs, inputs != PAD, memory).at[..., jnp.array([0, 1, 3])].set(-jnp.inf)
            log_p = jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.asarray(EVERY)[:, :, None], axis=-1)[..., 0]
            log_p = jnp.where(jnp.asarray(EVERY) != PAD, log_p, 0.0).sum(-1)
            total += (jnp.exp(log_p) * WORTH * (1 + image)).sum()
        return total / len(cells)

    return value(parameters), jax.grad(value)(parameters)


@pytest.mark.slow
@pytest.mark.parametrize("baseline", ["others", "greedy"])
def test_the_mean_gradient_is_that_of_the_expected_reward(captioner, baseline):
    loss, parameters, cells = objective_of(captioner, SelfCriticalConfig(captions=32, baseline=baseline))
    draws = jax.jit(jax.vmap(jax.grad(loss), (None, 0)))
    samples = draws(parameters, jax.random.split(jax.random.key(0), 200))
    _, exact = expected_reward(captioner, cells)
    for (path, found), wanted in zip(jax.tree.leaves_with_path(samples), jax.tree.leaves(exact), strict=True):
        mean, error = -found.mean(0), found.std(0) / np.sqrt(len(found))
        # 4.5 standard errors: one in 150,000 numbers lies further out by chance; rounding where there is no error.
        assert (jnp.abs(mean - wanted) <= 4.5 * error + 1e-5).all(), jax.tree_util.keystr(path)
    assert float(jnp.abs(exact["decoder"]["embed"]["embedding"]).max()) > 1e-2


def test_the_baseline_of_others_by_hand():
    np.testing.assert_allclose(mean_of_others(jnp.array([[1.0, 2.0, 6.0]])), [[4.0, 3.5, 1.5]])


def test_images_of_no_use_weigh_nothing(captioner):
    graphdef, parameters = split(captioner)
    whole = batch()
    half = whole._replace(usable=np.array([True, False]))
    goal = SelfCritical(Table(), SelfCriticalConfig(baseline="greedy", written_by="beams", captions=2), T)
    cells = captioner.see(jax.random.normal(jax.random.key(1), (2, 8, 8, 3)))
    one = Batch(*(x[:1] for x in whole))
    key = jax.random.key(0)
    of = jax.jit(
        lambda parameters, cells, batch: goal(nnx.merge(graphdef, parameters), cells, batch, Counts.of(batch), key)
    )
    losses = [of(parameters, c, b) for c, b in ((cells, half), (cells[:1], one))]
    np.testing.assert_allclose(losses[0][0], losses[1][0], rtol=1e-5)
    np.testing.assert_allclose(losses[0][1]["reward"], losses[1][1]["reward"], rtol=1e-5)


@jax.jit
def greedy_worth(captioner):
    """The mean reward of the captions that it would write."""
    cells = captioner.see(normalise(jnp.asarray(batch().images), Preprocessing(8)))
    written = greedy(alone(captioner.decoder, captioner.memory(cells)), T)
    return Table()(written.tokens, jnp.arange(2)).mean()


@pytest.mark.parametrize(
    ("settings", "precision"),
    [({}, "float32"), ({"written_by": "beams"}, "bfloat16"), ({"cross_entropy": 0.2, "entropy": 0.01}, "float32")],
)
def test_training_finds_the_captions_of_greatest_reward(captioner, settings, precision):
    train = TrainConfig(steps=60, warmup=1, learning_rate=0.01, precision=precision)
    graphdef, parameters = split(captioner)
    goal = SelfCritical(Table(), SelfCriticalConfig(**settings), T)
    state = first_state(jax.tree.map(jnp.copy, parameters), make_optimizer(train), train)
    step = make_train_step(graphdef, make_optimizer(train), Preprocessing(8), train, goal)
    best = lambda parameters: greedy_worth(nnx.merge(graphdef, parameters))
    assert best(parameters) < WORTH.max() * 1.5
    for _ in range(60):
        state, metrics = step(state, batch())
    assert best(state.parameters) == WORTH.max() * 1.5
    assert np.isfinite(metrics.told["reward"])


def test_cross_entropy_has_its_weight(captioner):
    graphdef, parameters = split(captioner)
    cells = captioner.see(jax.random.normal(jax.random.key(1), (2, 8, 8, 3)))
    key = jax.random.key(0)
    of = jax.jit(lambda goal: told(goal, nnx.merge(graphdef, parameters), cells, batch(), key)[0])
    alone, people = of(SelfCritical(Table(), SelfCriticalConfig(), T)), of(CrossEntropy())
    mixed = of(SelfCritical(Table(), SelfCriticalConfig(cross_entropy=0.25), T))
    np.testing.assert_allclose(mixed, 0.75 * alone + 0.25 * people, rtol=1e-5)


class Captions(Source):
    """Images that are nothing but their captions, and scenes if there are."""

    def __init__(self, captions, facts=()):
        self.all, self.facts = captions, facts

    def __len__(self):
        return len(self.all)

    def read(self, i):
        return Example(str(i), b"", tuple(self.all[i]), self.facts[i] if self.facts else None)


def test_the_reward_is_the_evaluations_cider_d_with_the_end_as_a_word():
    train = Captions([["A red dog runs.", "A dog, red."], ["A cat sits on a mat."], ["Two dogs run."]])
    tokenizer = train_words([c for some in train.captions() for c in some if "mat" not in c], 1)
    written = ["a dog runs", "a dog sits", "two dogs"]
    tokens = jnp.asarray(np.stack([tokenizer.encode(caption, 9)[1:] for caption in written]))[:, None]
    found = WORTH_OF(CiderDReward.of(train, tokenizer), tokens, jnp.array([0, 1, 2]))[:, 0]
    ended = lambda caption: [*ptb.words(caption), "<end>"]
    known = [[word if word in tokenizer.backend.get_vocab() else "<unk>" for word in ended(c)] for c in written]
    expected = cider_d(known, [[ended(c) for c in some] for some in train.captions()])
    assert expected.min() > 0
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("captions", "message"), [([["a dog"], []], "image 1 has no references"), ([["a dog " * 64]], "too long")]
)
def test_captions_that_nothing_can_be_rewarded_by_are_refused(captions, message):
    with pytest.raises(UserError, match=rf"self_critical\.reward: .*{message}"):
        CiderDReward.of(Captions(captions), train_words(["a dog"], 1))


def test_stopping_short_is_worth_less_than_an_end():
    train = Captions([["a dog with a ball"], ["a cat"], ["a cow with a bell"]])
    tokenizer = train_words([c for some in train.captions() for c in some], 1)
    whole = tokenizer.encode("a dog with a ball", 8)[1:]
    reward = CiderDReward.of(train, tokenizer)
    worth = lambda ids: float(WORTH_OF(reward, jnp.asarray(ids)[None, None], jnp.array([0]))[0, 0])
    assert worth(whole) > worth(np.where(whole == END, PAD, whole))


def test_what_is_true_of_a_scene_is_worth_half_and_all_of_it_the_whole():
    scenes = (make_scene(np.random.default_rng(seed), held_out=False) for seed in range(50))
    scene = next(scene for scene in scenes if len({(t.colour, t.shape) for t in scene.things}) == 3)
    named = [f"a {thing.colour} {thing.shape}" for thing in scene.things]
    written = [named[0], " and ".join(named), "no"]
    tokenizer = train_words(written, 1)
    train = Captions([written], [scene.to_json()])
    reward = make_reward(SelfCriticalConfig(reward="true"), train, tokenizer)
    assert isinstance(reward, TruthReward)
    tokens = jnp.asarray(np.stack([tokenizer.encode(caption, 24)[1:] for caption in written]))[None]
    np.testing.assert_array_equal(WORTH_OF(reward, tokens, jnp.array([0])), [[0.5, 1.0, 0.0]])
    with pytest.raises(UserError, match="nobody knows what is true"):
        make_reward(SelfCriticalConfig(reward="true"), Captions([["a dog"]]), tokenizer)


def test_bleu_4_has_its_weight():
    train = Captions([["a dog with a ball"], ["a cat"], ["a cow with a bell"]])
    tokenizer = train_words([c for some in train.captions() for c in some], 1)
    tokens = jnp.asarray(tokenizer.encode("a dog with a bell", 8)[1:])[None, None]
    alone, mixed = (
        WORTH_OF(make_reward(SelfCriticalConfig(bleu_4=weight), train, tokenizer), tokens, jnp.array([0]))
        for weight in (0.0, 0.5)
    )
    references = jnp.asarray(filled([[tokenizer.encode("a dog with a ball", 6)[1:].tolist()]]))
    np.testing.assert_allclose(mixed - alone, 0.5 * sentence_bleu_4(tokens, references), rtol=1e-5)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Changed(Table):
    """factor x Table + more."""

    factor: float = 1.0
    more: float = 0.0

    def __call__(self, tokens, images):
        return self.factor * super().__call__(tokens, images) + self.more


@pytest.mark.parametrize("how", [{}, {"baseline": "greedy"}, {"written_by": "beams"}])
def test_what_all_captions_are_worth_alike_counts_for_nothing(captioner, how):
    losses = []
    for more in (0.0, 10.0):
        loss, parameters, _ = objective_of(captioner, SelfCriticalConfig(captions=3, **how), reward=Changed(more=more))
        losses.append(jax.jit(loss)(parameters, jax.random.key(0)))
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3, atol=1e-4)


def test_the_greedy_caption_has_no_advantage_over_itself(captioner):
    """A beam of one writes it."""
    how = SelfCriticalConfig(captions=1, baseline="greedy", written_by="beams")
    loss, parameters, _ = objective_of(captioner, how)
    np.testing.assert_allclose(jax.jit(loss)(parameters, jax.random.key(0)), 0, atol=1e-5)


def told_of(captioner, goal, key=0):
    cells = captioner.see(jax.random.normal(jax.random.key(1), (2, 8, 8, 3)))
    return told(goal, captioner, cells, batch(), jax.random.key(key))


def test_entropy_is_rewarded_by_its_weight_and_means_are_told(captioner):
    worth_one = Changed(factor=0.0, more=1.0)
    plain, means = told_of(captioner, SelfCritical(worth_one, SelfCriticalConfig(captions=4), T))
    more, _ = told_of(captioner, SelfCritical(worth_one, SelfCriticalConfig(captions=4, entropy=0.5), T))
    np.testing.assert_allclose(means["reward"], 1, rtol=1e-6)
    assert 0 < means["entropy"] <= T * np.log(V)
    np.testing.assert_allclose(more - plain, -0.5 * means["entropy"], rtol=1e-4)


def test_images_and_steps_have_draws_of_their_own(captioner):
    goal = SelfCritical(Table(), SelfCriticalConfig(captions=32), T)
    cells = captioner.see(jnp.zeros((2, 8, 8, 3)))  # two images alike
    first, other = goal._written(alone(captioner.decoder, captioner.memory(cells)), jax.random.key(0))
    assert not np.array_equal(first, other)
    one, another = (told_of(captioner, goal, key)[1]["reward"] for key in (0, 1))
    assert one != another
