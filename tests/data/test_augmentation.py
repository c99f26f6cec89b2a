"""Augmented images keep to their seed, and to what evaluation sees where nothing is asked for."""

import numpy as np
import pytest
from PIL import Image

from captioner_jax.config import DataConfig
from captioner_jax.data.augmentation import CHANGES, augment, jitter, randaugment
from captioner_jax.data.images import to_square

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 50, 3), dtype=np.uint8))


def augmented(image, seed=0, mirror=True, **settings):
    return augment(image, DataConfig(image_size=16, **settings), mirror, np.random.default_rng(seed))


def test_the_seed_decides():
    asked = {"crop": 0.5, "flip": True, "jitter": 0.3, "randaugment": 7.0}
    np.testing.assert_array_equal(augmented(NOISE, **asked), augmented(NOISE, **asked))
    assert not np.array_equal(augmented(NOISE, **asked), augmented(NOISE, 1, **asked))


def test_half_are_mirrored_and_none_where_it_is_forbidden():
    image = Image.new("RGB", (20, 20))
    image.paste((255, 255, 255), (0, 0, 10, 20))
    mirrored = [augmented(image, seed, flip=True)[0, 0, 0] == 0 for seed in range(400)]
    assert 150 < sum(mirrored) < 250
    assert not any(augmented(image, seed, mirror=False, flip=True)[0, 0, 0] == 0 for seed in range(50))


def test_without_augmentation_it_is_what_evaluation_sees():
    np.testing.assert_array_equal(augmented(NOISE), to_square(NOISE, 16))


@pytest.mark.parametrize("smallest", [0.1, 0.5, 0.9])
def test_a_crop_keeps_its_share_of_the_area(smallest):
    ramp = np.zeros((64, 64, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(64)[:, None] * 4, np.arange(64)[None] * 4
    for seed in range(50):
        found = augmented(Image.fromarray(ramp), seed, crop=smallest).astype(float)
        height, width = (np.ptp(found[..., c]) / 4 / 64 * 16 / 15 for c in (0, 1))
        assert smallest * 0.85 < height * width < 1.1
        assert 0.65 < width / height < 1.5


def test_jitter_stays_within_its_bounds():
    grey = Image.new("RGB", (4, 4), (100, 100, 100))
    values = [np.asarray(jitter(grey, 0.2, np.random.default_rng(seed))).mean() for seed in range(200)]
    assert 78 <= min(values) < 85
    assert 115 < max(values) <= 121


def test_every_change_grows_with_its_strength():
    smooth = NOISE.resize((4, 4)).resize((40, 40), Image.Resampling.NEAREST)
    change = lambda i, m: np.abs(np.asarray(CHANGES[i](smooth, m)).astype(int) - np.asarray(smooth)).mean()
    for i in range(3, len(CHANGES)):
        for sign in (-1, 1):
            assert change(i, 0) <= 1
            assert change(i, 0.2 * sign) < change(i, 0.8 * sign)
    assert change(0, 1) == 0


def test_randaugment_draws_all_changes():
    drawn = {randaugment(NOISE, 8.0, np.random.default_rng(seed)).tobytes() for seed in range(200)}
    assert len(drawn) > 100
