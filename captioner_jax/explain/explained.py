"""A caption with the answers to what may be asked about it."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from captioner_jax.generation.caption import Caption


class Alternative(NamedTuple):
    """A token that might have been written, and how likely it was."""

    token: str
    probability: float


class Explained(NamedTuple):
    """A caption token by token, END last: how likely each was, what else was, and where each head of each layer looked.

    The looks of a head at the y x cells sum to 1, and so do its looks back at START and the tokens before; under
    concatenation both sum to 1 together. What falls on a class token, which published captioners look at, is left out.
    """

    caption: Caption
    tokens: list[str]
    probabilities: Float[np.ndarray, " T"]
    alternatives: list[list[Alternative]]
    """In place of each token the likeliest ones, itself among them if it is one; the captioner's own probabilities,
    before constraints."""
    looks: Float[np.ndarray, "L N T y x"]
    looks_back: Float[np.ndarray, "L N T T"]


class Grounds(NamedTuple):
    """What each token rests on, as maps over the cells; their meaning and their sources: `explain.evidence`."""

    attention: Float[np.ndarray, "T y x"]
    rollout: Float[np.ndarray, "T y x"]
    gradient: Float[np.ndarray, "T y x"]
    occlusion: Float[np.ndarray, "T y x"]
