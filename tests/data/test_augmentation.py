"""Augmented images keep to their seed, and to what evaluation sees where nothing is asked for."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from captioner_jax.config import DataConfig
from captioner_jax.data import augmentation
from captioner_jax.data.augmentation import CHANGES, GREY, augment, jitter, randaugment
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


@pytest.mark.parametrize("framing", ["middle", "whole"])
def test_without_augmentation_it_is_what_evaluation_sees(framing):
    wide = NOISE.resize((70, 40))
    np.testing.assert_array_equal(augmented(wide, framing=framing), to_square(wide, 16, framing))


@pytest.mark.parametrize("smallest", [0.1, 0.5, 0.9])
def test_a_crop_keeps_its_share_of_the_area(smallest):
    ramp = np.zeros((64, 64, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(64)[:, None] * 4, np.arange(64)[None] * 4
    for seed in range(50):
        found = augmented(Image.fromarray(ramp), seed, crop=smallest).astype(float)
        height, width = (np.ptp(found[..., c]) / 4 / 64 * 16 / 15 for c in (0, 1))
        assert smallest * 0.85 < height * width < 1.1
        assert 0.65 < width / height < 1.5


@pytest.mark.parametrize("size", [(160, 80), (60, 180)])
def test_crops_of_what_is_squeezed_are_those_of_the_square(size):
    square = NOISE.resize((6, 6)).resize((120, 120))
    for seed in range(20):
        expected, found = (augmented(image, seed, crop=0.5, framing="whole") for image in (square, square.resize(size)))
        np.testing.assert_allclose(found.astype(int), expected.astype(int), atol=12)


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


def test_randaugment_is_two_changes_at_its_strength_of_ten(monkeypatch):
    asked = []
    noted = [lambda image, m, i=i: asked.append((i, m)) or image for i in range(len(CHANGES))]
    monkeypatch.setattr(augmentation, "CHANGES", tuple(noted))
    for seed in range(300):
        randaugment(NOISE, 7.0, np.random.default_rng(seed))
    assert len(asked) == 600
    assert {m for _, m in asked} == {0.7, -0.7}
    assert {i for i, _ in asked} == set(range(len(CHANGES)))


def middle(image):
    """Of what is brighter than the corner, (x, y)."""
    light = np.asarray(image.convert("L"), float)
    light = np.abs(light - light[0, 0])
    return [light.sum(axis) @ np.arange(light.shape[1 - axis]) / light.sum() for axis in (0, 1)]


@pytest.mark.parametrize(
    ("change", "before", "after"),
    [
        (3, (150, 100), (100 + 50 * np.cos(np.pi / 6), 100 - 50 * np.sin(np.pi / 6))),
        (4, (100, 50), (100 + 0.3 * 50, 50)),
        (5, (50, 100), (50, 100 + 0.3 * 50)),
        (6, (150, 100), (150 - 0.45 * 200, 100)),
        (7, (100, 150), (100, 150 - 0.45 * 200)),
    ],
)
def test_at_ten_changes_of_place_are_as_large_as_published(change, before, after):
    """AutoAugment (Cubuk et al. 2019), table 6, but for shifts: by 0.45 of a side in place of 150 of 331 pixels."""
    image = Image.new("RGB", (200, 200), GREY)
    image.paste((255, 255, 255), (before[0] - 3, before[1] - 3, before[0] + 3, before[1] + 3))
    np.testing.assert_allclose(middle(CHANGES[change](image, 1.0)), after, atol=1.5)


@pytest.mark.parametrize("m", [-1, 1])
def test_at_ten_changes_of_colour_are_as_large_as_published(m):
    kinds = (ImageEnhance.Color, ImageEnhance.Contrast, ImageEnhance.Brightness, ImageEnhance.Sharpness)
    for change, kind in zip(CHANGES[8:], kinds, strict=True):
        np.testing.assert_array_equal(np.asarray(change(NOISE, m)), np.asarray(kind(NOISE).enhance(1 + 0.9 * m)))


def test_jitter_changes_contrast_and_saturation_too():
    """Brightness alone keeps the ratio of two greys; with contrast it scales all differences alike, saturation not."""
    grey = Image.new("RGB", (8, 8), (60, 60, 60))
    grey.paste((180, 180, 180), (0, 0, 4, 8))
    red = Image.new("RGB", (8, 8), (110, 90, 90))
    red.paste((140, 140, 140), (4, 0, 8, 8))
    ratios, shares = [], []
    for seed in range(100):
        x, y = (np.asarray(jitter(image, 0.3, np.random.default_rng(seed))).astype(float) for image in (grey, red))
        ratios.append(x.max() / x.min())
        shares.append((y[0, 0, 0] - y[0, 0, 1]) / (y[0, -1].mean() - y[0, 0].mean()))
    assert np.ptp(ratios) > 0.5
    assert np.ptp(shares) > 0.15


def test_crops_lie_anywhere():
    ramp = np.zeros((64, 64, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(64)[:, None] * 4, np.arange(64)[None] * 4
    found = [augmented(Image.fromarray(ramp), seed, crop=0.2).astype(float) for seed in range(200)]
    for axis in (0, 1):
        first, last = ([x[corner, corner, axis] for x in found] for corner in (0, -1))
        assert min(first) < 12
        assert np.median(first) > 20
        assert max(last) > 240
