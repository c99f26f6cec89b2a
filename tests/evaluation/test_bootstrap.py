"""Bootstrap intervals by their laws."""

import numpy as np
import pytest

from captioner_jax.evaluation.bleu import bleu, bleu_counts
from captioner_jax.evaluation.bootstrap import OfImages, bootstrap, resampled_sums, score_differences, score_intervals
from captioner_jax.evaluation.cider import cider_d
from captioner_jax.evaluation.rouge import rouge_l
from tests.evaluation.make_official_scores import synthetic


def scored(images):
    candidates, references = synthetic(images)
    return of_images(candidates, references)


def of_images(candidates, references):
    scores = bleu_counts(candidates, references), rouge_l(candidates, references), cider_d(candidates, references)
    return OfImages(*scores)


def means(images):
    return lambda sums: sums / images


def test_estimates_are_the_scores_and_lie_inside():
    counts, rouge, cider = of_each = scored(200)
    intervals = score_intervals(of_each)
    expected = [*bleu(counts.total()), rouge.mean(), cider.mean()]
    assert list(intervals) == ["bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider_d"]
    np.testing.assert_allclose([interval.estimate for interval in intervals.values()], expected, rtol=1e-12)
    for interval in intervals.values():
        assert interval.low < interval.estimate < interval.high


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution():
    values = np.random.default_rng(0).normal(3, 2, (2000, 1))
    (interval,) = bootstrap(values, means(2000), resamples=4000)
    half = 1.96 * values.std() / np.sqrt(2000)
    np.testing.assert_allclose([interval.low, interval.high], values.mean() + np.array([-half, half]), atol=0.05 * half)


def test_four_times_the_images_halve_the_interval():
    def width(images):
        return np.array([interval.high - interval.low for interval in score_intervals(scored(images)).values()])

    np.testing.assert_allclose(width(1600) / width(400), 1 / 2, rtol=0.2)


def test_a_higher_level_is_wider_and_a_seed_repeats():
    values = np.random.default_rng(0).normal(size=(100, 1))
    narrow, wide, again = (bootstrap(values, means(100), level=level)[0] for level in (0.8, 0.99, 0.8))
    assert wide.low < narrow.low < narrow.high < wide.high
    assert narrow == again
    assert bootstrap(values, means(100), level=0.8, seed=1)[0] != narrow


def test_a_resample_has_as_many_images():
    assert (resampled_sums(np.ones((50, 1)), 20, seed=0) == 50).all()


def test_what_all_images_share_is_certain():
    counts, rouge, cider = scored(30)
    for interval in score_intervals(OfImages(counts, np.full_like(rouge, 0.5), np.full_like(cider, 2))).values():
        assert interval.low <= interval.estimate <= interval.high
    halves = OfImages(counts, np.full_like(rouge, 0.5), cider)
    assert score_intervals(halves)["rouge_l"] == pytest.approx((0.5, 0.5, 0.5))


def test_two_captioners_meet_on_the_same_images():
    """The better by 0.1 on every image is better for certain, however much images differ."""
    one = np.random.default_rng(0).normal(size=50)
    table = np.stack([one + 0.1, one], 1)
    (interval,) = bootstrap(table, lambda sums: (sums[:, :1] - sums[:, 1:]) / 50)
    np.testing.assert_allclose(interval, 0.1)


def test_differences_are_of_the_same_images_in_each_resample():
    """So that their interval is far narrower than those of the two, which hold much of each other."""
    captions, references = synthetic(200)
    worse = [words[:-1] if i % 5 == 0 else words for i, words in enumerate(captions)]
    one, other = of_images(captions, references), of_images(worse, references)
    differences, (better, less) = score_differences(one, other), map(score_intervals, (one, other))
    for name, by in differences.items():
        assert by.estimate == pytest.approx(better[name].estimate - less[name].estimate, abs=1e-12)
        assert by.low <= by.estimate <= by.high
    rouge = differences["rouge_l"]
    assert rouge.low > 0
    assert better["rouge_l"].low < less["rouge_l"].high
    assert rouge.high - rouge.low < (better["rouge_l"].high - better["rouge_l"].low) / 3
    assert set(score_differences(one, one).values()) == {(0.0, 0.0, 0.0)}


def test_intervals_of_scores_are_of_the_level_asked_for():
    captions, references = synthetic(100)
    of_each = of_images(captions, references)
    narrow, wide = (score_intervals(of_each, level=level) for level in (0.5, 0.95))
    for name in narrow:
        assert wide[name].low < narrow[name].low < narrow[name].high < wide[name].high
