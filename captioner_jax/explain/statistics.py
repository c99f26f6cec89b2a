"""Heads in numbers: how widely each looks, and how far they look alike."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class HeadStatistics(NamedTuple):
    """Of each layer's heads, means over a caption's tokens."""

    entropy: Float[np.ndarray, "L N"]
    """In bits, of where a head looks; log2 S where it looks at all S cells alike."""
    largest: Float[np.ndarray, "L N"]
    """The share of the cell that it looks at most."""
    at_cells: Float[np.ndarray, "L N"]
    """The share of all cells together; below 1 where a head divides itself between cells and words."""
    apart: Float[np.ndarray, "L N"]
    """In bits, how far from the mean of its layer's heads it looks: 0 if as the others, log2 N if where none does."""


def entropy(shares: Float[np.ndarray, "*B S"]) -> Float[np.ndarray, "*B"]:
    r"""$$H = -\sum_s p_s \log_2 p_s$$ in bits, of shares scaled so that they sum to 1."""
    p = _scaled(shares)
    return -(p * np.log2(np.where(p > 0, p, 1))).sum(-1)


def head_statistics(looks: Float[np.ndarray, "L N T S"]) -> HeadStatistics:
    """`apart` is the head's Kullback-Leibler divergence from the mean; its mean over heads is the Jensen-Shannon
    divergence among them (Lin 1991, equation 5.1)."""
    p = _scaled(looks)
    ratio = np.where(p > 0, p, 1) / np.where(p > 0, p.mean(1, keepdims=True), 1)
    return HeadStatistics(
        entropy(looks).mean(-1), p.max(-1).mean(-1), looks.sum(-1).mean(-1), (p * np.log2(ratio)).sum(-1).mean(-1)
    )


def _scaled(shares: Float[np.ndarray, "*B S"]) -> Float[np.ndarray, "*B S"]:
    return shares / np.maximum(shares.sum(-1, keepdims=True), np.finfo(shares.dtype).tiny)
