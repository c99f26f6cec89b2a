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
    $(1 - \text{level}) / 2$ to its $(1 + \text{level}) / 2$ quantile (Efron and Tibshirani 1993, section 13.3). Two
    captioners are compared by a table with the columns of both and a statistic that subtracts, so that both see the
    same images.
    """
    estimate = statistic(table.sum(0, keepdims=True))[0]
    drawn = statistic(resampled_sums(table, resamples, seed))
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return [Interval(*map(float, values)) for values in zip(estimate, low, high, strict=True)]


def score_intervals(
    counts: BleuCounts,
    rouge_l: Float[np.ndarray, " images"],
    cider_d: Float[np.ndarray, " images"],
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Of `bleu_1` to `bleu_4`, `rouge_l` and `cider_d`, the corpus's scores, from those of its images.

    BLEU is computed anew from each resample's counts. ROUGE-L and CIDEr-D are means over its images, CIDEr-D with the
    document frequencies of the whole split: what would move them with the images is left out.
    """
    lengths = np.stack([counts.testlen, counts.reflen], 1)
    table = np.concatenate([counts.correct, counts.guess, lengths, np.stack([rouge_l, cider_d], 1)], 1)

    def scores(sums: Float[np.ndarray, "resamples columns"]) -> Float[np.ndarray, "resamples statistics"]:
        return np.concatenate([bleu(_counts(sums)), sums[:, -2:] / len(table)], 1)

    names = [*(f"bleu_{n}" for n in range(1, ORDERS + 1)), "rouge_l", "cider_d"]
    found = bootstrap(table, scores, resamples=resamples, level=level, seed=seed)
    return dict(zip(names, found, strict=True))


def _counts(sums: Float[np.ndarray, "resamples columns"]) -> BleuCounts:
    whole = np.rint(sums[:, : 2 * ORDERS + 2]).astype(np.int64)
    return BleuCounts(whole[:, :ORDERS], whole[:, ORDERS : 2 * ORDERS], whole[:, -2], whole[:, -1])
