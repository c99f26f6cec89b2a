"""Batches are a function of seed and step, whatever reads them."""

import itertools

import numpy as np
import pytest

from captioner_jax.config import DataConfig, TrainConfig
from captioner_jax.data.folder import load
from captioner_jax.data.pipeline import check_batches, draw_captions, evaluation_batches, training_batches
from captioner_jax.errors import UserError
from captioner_jax.text.special import PAD
from captioner_jax.text.tokenizer import Tokenizer
from tests.data.making import colour_folder

TRAIN = TrainConfig(batch_size=4, seed=1)


@pytest.fixture
def folder(tmp_path):
    return colour_folder(tmp_path / "data")


def batches(root, count, first=0, train=TRAIN, **settings):
    config = DataConfig(source="folder", path=str(root), image_size=16, max_length=6, crop=0.6, flip=True, **settings)
    data = load(config)
    tokenizer = Tokenizer.train(data.train.captions(), 1)
    return list(itertools.islice(training_batches(data.train, config, tokenizer, train, first), count))


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_the_seed_decides_everything(folder):
    one, again = batches(folder, 8), batches(folder, 8)
    other = batches(folder, 8, train=TrainConfig(batch_size=4, seed=2))
    assert all(map(same, one, again))
    assert not any(map(same, one, other))


def test_a_resumed_run_sees_the_very_next_batch(folder):
    whole = batches(folder, 15)
    for first in (1, 6, 13):
        assert all(map(same, whole[first:], batches(folder, 15 - first, first)))


def test_workers_change_nothing(folder):
    assert all(map(same, batches(folder, 8), batches(folder, 8, workers=2)))


def test_an_epoch_holds_every_image_once(folder):
    config = DataConfig(source="folder", path=str(folder), image_size=16, max_length=6)
    data = load(config)
    tokenizer = Tokenizer.train(data.train.captions(), 1)
    stream = training_batches(data.train, config, tokenizer, TRAIN, 0)
    first, second = (np.concatenate([next(stream).images for _ in range(6)]) for _ in range(2))
    ((_, all_of_them),) = evaluation_batches(data.train, config, tokenizer, batch_size=24)
    pixels = lambda images: sorted(image.tobytes() for image in images)
    assert pixels(first) == pixels(second) == pixels(all_of_them.images)
    assert not np.array_equal(first, second)


def test_a_damaged_image_weighs_nothing_and_is_named_once(folder, caplog):
    for i in range(30):
        if i % 3 == 0:
            (folder / f"{i:03}.jpg").write_bytes(b"junk")
    found = batches(folder, 12)
    for batch in found:
        assert (batch.tokens[~batch.usable] == PAD).all()
        assert (batch.tokens[batch.usable] != PAD).any(-1).all()
    assert sum((~b.usable).sum() for b in found) > 0
    named = [record.getMessage().split(":")[0] for record in caplog.records]
    assert len(named) == len(set(named)) > 0


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_image_stops_the_run_if_asked(folder, workers):
    for file in folder.glob("*.jpg"):
        file.write_bytes(b"junk")
    with pytest.raises(UserError, match="on_error skip"):
        batches(folder, 1, on_error="stop", workers=workers)


def test_too_few_images_for_a_batch_is_said(folder):
    with pytest.raises(UserError, match="batch_size"):
        check_batches(load(DataConfig(source="folder", path=str(folder))).train, TrainConfig(batch_size=64))


def test_captions_are_drawn_without_repeating_before_all_were():
    rng = np.random.default_rng(0)
    assert sorted(draw_captions(("a", "b", "c"), 3, rng)) == ["a", "b", "c"]
    assert sorted(draw_captions(("a", "b"), 4, rng)) == ["a", "a", "b", "b"]
    first = [draw_captions(("a", "b"), 1, rng)[0] for _ in range(200)]
    assert 60 < first.count("a") < 140


def test_the_last_evaluation_batch_is_filled_with_nothing(folder):
    config = DataConfig(source="folder", path=str(folder), image_size=16, max_length=6)
    data = load(config)
    tokenizer = Tokenizer.train(data.train.captions(), 1)
    (_, whole), (examples, last) = evaluation_batches(data.train, config, tokenizer, batch_size=20)
    assert whole.images.shape == last.images.shape
    assert last.usable.tolist() == [True] * len(examples) + [False] * (20 - len(examples))
