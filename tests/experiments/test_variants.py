"""Each variant is what its equation says, and still a captioner."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from captioner_jax.captioning import Captioner as Captioning
from captioner_jax.config import Config, DataConfig, EncoderConfig, ModelConfig, TrainConfig
from captioner_jax.data.images import Preprocessing, normalise
from captioner_jax.data.load import load
from captioner_jax.data.told import Told
from captioner_jax.generation.ensemble import log_probabilities
from captioner_jax.model.attention import MultiHeadAttention
from captioner_jax.text.special import START
from captioner_jax.text.tokenizer import Tokenizer
from experiments.comparing import Learned, compare, show_looks, train
from experiments.gated_cross_attention import GatedCaptioner
from experiments.multi_query import MultiQueryAttention, MultiQueryCaptioner
from experiments.relative_positions import FARTHEST, RelativeAttention, RelativeCaptioner, distances
from tests.data.making import colour_folder
from tests.making import TOKENIZER

CONFIG = ModelConfig(
    width=16, heads=2, feed_forward=32, layers=1, encoder=EncoderConfig("convnet", 4, (16, 32), (0, 1))
)
V, T = 11, 4
VARIANTS = [RelativeCaptioner, MultiQueryCaptioner, GatedCaptioner]


@pytest.fixture(scope="module")
def images():
    return jax.random.normal(jax.random.key(1), (2, 16, 16, 3))


@pytest.fixture(scope="module")
def words():
    return jax.random.randint(jax.random.key(2), (2, T), 4, V)


@pytest.mark.parametrize("kind", VARIANTS)
def test_cached_decoding_equals_the_full_forward(kind, images, words):
    captioner = kind(CONFIG, V, rngs=nnx.Rngs(0))
    two_each = jnp.stack([words, words[:, ::-1]], axis=1)
    full = captioner(images, two_each.reshape(-1, T), jnp.ones((4, T), bool)).reshape(2, 2, T, V)
    memory, cache = captioner.memory(captioner.see(images)), captioner.decoder.empty_cache(2, 2, T)
    for t in range(T):
        logits, cache = captioner.decoder.step(two_each[:, :, t], memory, cache)
        np.testing.assert_allclose(logits, full[:, :, t], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", VARIANTS)
def test_what_is_watched_is_what_happens(kind, images, words):
    captioner = kind(CONFIG, V, rngs=nnx.Rngs(0))
    for block in captioner.decoder.blocks:
        if kind is GatedCaptioner:
            block.alpha[...] = jnp.ones(())
    is_word, cells = jnp.ones_like(words, bool), captioner.encode(captioner.see(images))
    logits, looks = captioner.decoder.watched(words, is_word, cells, jnp.ones(cells.shape[:2], bool))
    np.testing.assert_allclose(logits, captioner(images, words, is_word), rtol=1e-4, atol=1e-5)
    assert looks[0].cells.shape == (2, CONFIG.heads, T, cells.shape[1])
    np.testing.assert_allclose(looks[0].words.sum(-1), 1, rtol=1e-5)


def learned(captioner):
    """As training leaves it, were there any."""
    parameters = nnx.to_pure_dict(nnx.state(captioner))
    return Learned(CONFIG, Preprocessing(16), 8, TOKENIZER, parameters, {}, {}, kind=type(captioner))


@pytest.mark.parametrize("kind", VARIANTS)
def test_what_is_explained_is_what_the_variant_does(kind):
    """And not what a plain captioner would do with those parameters that it has a place for."""
    captioner = kind(CONFIG, len(TOKENIZER), rngs=nnx.Rngs(0))
    if kind is GatedCaptioner:
        captioner.decoder.blocks[0].alpha[...] = jnp.ones(())
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    told = Captioning(learned(captioner)).explain(picture)
    ids = [START, *map(TOKENIZER.backend.token_to_id, told.tokens)]
    inputs, images = jnp.array([ids[:-1]]), normalise(jnp.asarray(picture)[None], Preprocessing(16))
    is_word, cells = jnp.ones_like(inputs, bool), captioner.encode(captioner.see(images))
    p = np.exp(log_probabilities(captioner(images, inputs, is_word))[0])
    np.testing.assert_allclose(told.probabilities, p[np.arange(len(p)), ids[1:]], rtol=1e-4)
    _, (looks,) = captioner.decoder.watched(inputs, is_word, cells, jnp.ones(cells.shape[:2], bool))
    np.testing.assert_allclose(told.looks_back[0], looks.words[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(told.looks[0].reshape(looks.cells[0].shape), looks.cells[0], rtol=1e-4, atol=1e-6)


def test_a_variant_is_not_kept_as_what_would_be_read_as_a_plain_captioner(tmp_path):
    with pytest.raises(TypeError, match="a RelativeCaptioner cannot be kept"):
        learned(RelativeCaptioner(CONFIG, len(TOKENIZER), rngs=nnx.Rngs(0))).save(tmp_path / "captioner")
    assert not any(tmp_path.iterdir())


def test_shared_keys_are_those_of_heads_that_are_all_alike():
    shared = MultiQueryAttention(16, 4, rngs=nnx.Rngs(0))
    apart = MultiHeadAttention(16, 4, rngs=nnx.Rngs(1))
    apart.w_q[...], apart.w_o[...] = shared.w_q[...], shared.w_o[...]
    apart.w_k[...], apart.w_v[...] = (jnp.broadcast_to(w[...], (16, 4, 4)) for w in (shared.w_k, shared.w_v))
    x = jax.random.normal(jax.random.key(0), (2, 5, 16))
    np.testing.assert_allclose(shared(x, shared.project(x)), apart(x, apart.project(x)), rtol=1e-5, atol=1e-6)


def test_distances_count_back_from_each_position():
    mask = jnp.tril(jnp.ones((12, 12), bool))[None, None]
    expected = np.clip(np.arange(12)[:, None] - np.arange(12), 0, FARTHEST)
    np.testing.assert_array_equal(distances(mask)[0, 0], expected)


def test_relative_scores_equal_a_loop_over_the_formula():
    layer = RelativeAttention(8, 2, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(3), (1, 4, 8))
    q, source, a = layer.queries(x)[0], layer.project(x), layer.positions[...]
    k, v = source.keys[0], source.values[0]
    heads = np.zeros((2, 4, 4))
    for t in range(4):
        for n in range(2):
            weights = np.exp([float(q[n, t] @ (k[n, s] + a[t - s])) / 2 for s in range(t + 1)])
            heads[n, t] = weights / weights.sum() @ np.asarray(v[n, : t + 1])
    expected = layer.merge(jnp.asarray(heads, jnp.float32)[None])
    mask = jnp.tril(jnp.ones((4, 4), bool))[None, None]
    np.testing.assert_allclose(layer(x, source, mask), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="need a mask"):
        layer(x, source)


def test_a_gate_that_is_shut_lets_nothing_of_the_picture_in(images, words):
    captioner = GatedCaptioner(CONFIG, V, rngs=nnx.Rngs(0))
    is_word = jnp.ones_like(words, bool)
    blind = captioner(images, words, is_word)
    np.testing.assert_array_equal(blind, captioner(-images, words, is_word))
    for block in captioner.decoder.blocks:
        block.alpha[...] = jnp.ones(())
    assert (captioner(images, words, is_word) != captioner(-images, words, is_word)).any()


def test_a_mistake_is_one_message(tmp_path, capsys):
    assert compare([GatedCaptioner], ["--config", str(tmp_path / "none.toml")]) == 1
    assert capsys.readouterr().err == f"error: {tmp_path}/none.toml: No such file or directory\n"
    assert compare([GatedCaptioner], ["--steps", "0"]) == 1
    assert capsys.readouterr().err == "error: command line: steps = 0: input should be greater than 0\n"
    (tmp_path / "photographs.toml").write_text('[data]\nsource = "flickr8k"\n')
    assert compare([GatedCaptioner], ["--config", str(tmp_path / "photographs.toml")]) == 1
    assert "captioners are compared on drawn scenes" in capsys.readouterr().err
    assert compare([GatedCaptioner], ["--looks", str(tmp_path / "photographs.toml")]) == 1
    assert capsys.readouterr().err == f"error: {tmp_path}/photographs.toml: File exists\n"


@pytest.mark.slow
@pytest.mark.usefixtures("ordinary_promotion")
def test_a_variant_trains_is_scored_and_shows_where_it_looks(tmp_path):
    data = DataConfig(source="folder", path=str(colour_folder(tmp_path, images=40)), image_size=16, max_length=8)
    config = Config(model=CONFIG, data=data, train=TrainConfig(steps=3, batch_size=8))
    read = load(data)
    captions = list(read.train.captions())
    tokenizer = Tokenizer.train(captions, data)
    run = train(GatedCaptioner, config, read, tokenizer, Told.of(captions, tokenizer), images=4)
    assert np.isfinite(run.scores["validation/loss"])
    assert run.parameters > 0
    show_looks(run.learned, read.validation["validation"][0], tmp_path)
    Image.open(tmp_path / "GatedCaptioner.png").verify()
    assert "<!doctype html>" in (tmp_path / "GatedCaptioner.html").read_text().lower()
