"""BLEU (Papineni et al. 2002), as the official COCO caption evaluation computes it."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from captioner_jax.evaluation.ngrams import ORDERS, checked, ngrams, paired

TINY, SMALL = 1e-15, 1e-9
"""Added to numerators and denominators, so that nothing is divided by 0; perfect captions score a little below 1."""


@dataclasses.dataclass(frozen=True, eq=False)
class BleuCounts:
    """What BLEU is computed from: of each image, or summed over images; n-gram counts for n = 1 to 4."""

    correct: Int[np.ndarray, "*images 4"]
    """N-grams of the candidate that a reference has, none more often than the reference that has it most."""
    guess: Int[np.ndarray, "*images 4"]
    """N-grams of the candidate."""
    testlen: Int[np.ndarray, "*images"]
    """Words of the candidate."""
    reflen: Int[np.ndarray, "*images"]
    """Words of the reference whose length is closest to the candidate's, the shorter of two as close."""

    def total(self) -> "BleuCounts":
        """The counts of the corpus."""
        sums = (np.asarray(values.sum(0)) for values in (self.correct, self.guess, self.testlen, self.reflen))
        return BleuCounts(*sums)


def bleu_counts(candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]) -> BleuCounts:
    r"""Counts of each image (Papineni et al. 2002, sections 2.1 and 2.2):

    $$\text{correct}_n = \sum_{g} \min\big(c(g),\, \max_j r_j(g)\big), \qquad \text{guess}_n = \sum_g c(g)$$

    over the n-grams g, of which the candidate has c(g) and its jth reference r_j(g).
    """
    image = np.repeat(np.arange(len(candidates)), checked(candidates, references))
    correct, guess = np.zeros((2, len(candidates), ORDERS), np.int64)
    for n, grams in enumerate(ngrams([*itertools.chain.from_iterable(references), *candidates])):
        count = grams.counts.count
        reference_row, candidate_row = paired(grams.counts, image)
        most = np.zeros_like(count)
        np.maximum.at(most, candidate_row, count[reference_row])
        own = slice(np.searchsorted(grams.counts.caption, len(image)), None)
        caption = grams.counts.caption[own] - len(image)
        np.add.at(correct[:, n], caption, np.minimum(count, most)[own])
        np.add.at(guess[:, n], caption, count[own])
    closest = [
        min(map(len, captions), key=lambda length: (abs(length - len(candidate)), length))
        for candidate, captions in zip(candidates, references, strict=True)
    ]
    return BleuCounts(correct, guess, np.asarray(list(map(len, candidates))), np.asarray(closest))


def bleu(counts: BleuCounts) -> Float[np.ndarray, "*images 4"]:
    r"""BLEU-1 to BLEU-4, of the corpus from its total counts, of single images from theirs:

    $$\text{BLEU}_n = \text{BP} \cdot \Big(\prod_{k=1}^{n} \frac{\text{correct}_k + 10^{-15}}{\text{guess}_k + 10^{-9}}
    \Big)^{1/n}, \qquad \text{BP} = e^{\min(0,\; 1 - 1/\rho)}, \qquad
    \rho = \frac{\text{testlen} + 10^{-15}}{\text{reflen} + 10^{-9}}$$

    (Papineni et al. 2002, section 2.3, with uniform weights; the small numbers are the official evaluation's). An image
    whose candidate shares no n-gram with its references has all but 0, unless it is shorter than n words: then 0 of 0
    counts as a precision of 10^-6.
    """
    precisions = (counts.correct + TINY) / (counts.guess + SMALL)
    means = np.cumprod(precisions, -1) ** (1 / np.arange(1, ORDERS + 1))
    ratio = (counts.testlen + TINY) / (counts.reflen + SMALL)
    return means * np.exp(np.minimum(0, 1 - 1 / ratio))[..., None]
