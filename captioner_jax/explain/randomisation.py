"""Sanity of maps (Adebayo et al. 2018): what looks the same of a captioner that has learned nothing tells nothing."""

from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float

from captioner_jax.bundle import Bundle
from captioner_jax.model.captioner import Captioner


def unlearned(captioner: Bundle, seed: int) -> dict[Any, Any]:
    """Variables of the same model before training: all weights at random."""
    model = Captioner(captioner.model, len(captioner.tokenizer), rngs=nnx.Rngs(seed))
    return jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(model)))


def rank_correlation(a: Float[np.ndarray, "*B S"], b: Float[np.ndarray, "*B S"]) -> Float[np.ndarray, "*B"]:
    """Spearman's, of two maps: 1 where both put the cells in one order, about 0 where they have nothing in common."""
    a, b = (ranks - ranks.mean(-1, keepdims=True) for ranks in (_ranks(a), _ranks(b)))
    return (a * b).sum(-1) / np.maximum(np.sqrt((a**2).sum(-1) * (b**2).sum(-1)), np.finfo(a.dtype).tiny)


def _ranks(x: Float[np.ndarray, "*B S"]) -> Float[np.ndarray, "*B S"]:
    """Those that are equal share the mean of their places."""
    below = (x[..., None, :] < x[..., :, None]).sum(-1)
    equal = (x[..., None, :] == x[..., :, None]).sum(-1)
    return below + (equal + 1.0) / 2
