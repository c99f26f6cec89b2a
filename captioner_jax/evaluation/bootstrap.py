"""How far scores would move with other images: the bootstrap (Efron 1979)."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from captioner_jax.evaluation.bleu import BleuCounts, bleu
from captioner_jax.evaluation.ngrams import ORDERS


class Interval(NamedTuple):
    """A score, and where it lies with the confidence asked for."""

    estimate: float
    low: float
    high: float


def resampled_sums(
    table: Float[np.ndarray, "images columns"], resamples: int, seed: int
) -> Float[np.ndarray, "resamples columns"]:
    """Sums of the rows of as many images, drawn with replacement, for each resample."""
    images = len(table)
    rng = np.random.default_rng(seed)
    times_drawn = (np.bincount(rng.integers(images, size=images), minlength=images) for _ in range(resamples))
    return np.stack([times @ table for times in times_drawn])


def bootstrap(
    table: Float[np.ndarray, "images columns"],
    statistic: Callable[[Float[np.ndarray, "resamples columns"]], Float[np.ndarray, "resamples statistics"]],
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> list[Interval]:
    r"""Percentile intervals over images of statistics of a table's column sums.

    With $\hat\theta^*_b$ the statistic of the bth resample of the images, the interval reaches from its
    $(1 - \text{level}) / 2$ to its $(1 + \text{level}) / 2$ quantile (Efron and Tibshirani 1993, section 13.3).
    """
    estimate = statistic(table.sum(0, keepdims=True))[0]
    drawn = statistic(resampled_sums(table, resamples, seed))
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return [Interval(*map(float, values)) for values in zip(estimate, low, high, strict=True)]


class OfImages(NamedTuple):
    """What the corpus's scores are made of, image by image."""

    counts: BleuCounts
    rouge_l: Float[np.ndarray, " images"]
    cider_d: Float[np.ndarray, " images"]

    @property
    def table(self) -> Float[np.ndarray, "images columns"]:
        """To be summed."""
        lengths = np.stack([self.counts.testlen, self.counts.reflen], 1)
        means = np.stack([self.rouge_l, self.cider_d], 1) / len(self.rouge_l)
        return np.concatenate([self.counts.correct, self.counts.guess, lengths, means], 1)


def score_intervals(
    of_images: OfImages, *, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[str, Interval]:
    """Of `bleu_1` to `bleu_4`, `rouge_l` and `cider_d`, the corpus's scores, from those of its images.

    BLEU is computed anew from each resample's counts. ROUGE-L and CIDEr-D are means over its images, CIDEr-D with the
    document frequencies of the whole split: what would move them with the images is left out.
    """
    return _named(bootstrap(of_images.table, _scores, resamples=resamples, level=level, seed=seed))


def score_differences(
    one: OfImages, other: OfImages, *, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[str, Interval]:
    """By how much one's scores are greater than the other's, of the same images: each resample is of both.

    Where an interval is wholly above or below zero the difference is more than what images of this kind are chosen
    makes (Koehn 2004, "Statistical Significance Tests for Machine Translation Evaluation", section 4).
    """
    table = np.concatenate([one.table, other.table], 1)
    less = lambda sums: np.subtract(*map(_scores, np.split(sums, 2, axis=1)))  # noqa: E731
    return _named(bootstrap(table, less, resamples=resamples, level=level, seed=seed))


def _scores(sums: Float[np.ndarray, "resamples columns"]) -> Float[np.ndarray, "resamples statistics"]:
    return np.concatenate([bleu(_counts(sums)), sums[:, -2:]], 1)


def _named(found: list[Interval]) -> dict[str, Interval]:
    return dict(zip([*(f"bleu_{n}" for n in range(1, ORDERS + 1)), "rouge_l", "cider_d"], found, strict=True))


def _counts(sums: Float[np.ndarray, "resamples columns"]) -> BleuCounts:
    whole = np.rint(sums[:, : 2 * ORDERS + 2]).astype(np.int64)
    return BleuCounts(whole[:, :ORDERS], whole[:, ORDERS : 2 * ORDERS], whole[:, -2], whole[:, -1])
