"""What a beam search considered, as a tree of beginnings of captions."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from captioner_jax.text.special import PAD
from captioner_jax.text.tokenizer import Tokenizer


class Branch(NamedTuple):
    """A word that a beam took at a step, counted from 0, to go on from its parent (by number; -1: from the start)."""

    token: str
    beginning: str
    """The text up to and with this word."""
    parent: int
    step: int
    log_p: float
    """Of the beginning up to and with this word, in nats."""
    chosen: bool
    """Is it part of the caption that was written?"""
    dropped: bool
    """Did the search go on without it, and without having ended here?"""


def grow(
    steps: Int[np.ndarray, "U K T"],
    log_p: Float[np.ndarray, "U K"],
    caption: Int[np.ndarray, " T"],
    tokenizer: Tokenizer,
) -> list[Branch]:
    """The branches, each after its parent, from the K captions in hand after each of U steps."""
    numbers: dict[tuple[int, ...], int] = {(): -1}
    reached: list[float] = []
    for tokens, totals in zip(steps, log_p, strict=True):
        for beam, total in zip(tokens, totals, strict=True):
            beginning = _written(beam)
            if np.isfinite(total) and beginning not in numbers:
                numbers[beginning] = len(reached)
                reached.append(float(total))
    beginnings = list(numbers)[1:]
    parents = {beginning[:-1] for beginning in beginnings}
    final = {_written(beam) for beam, total in zip(steps[-1], log_p[-1], strict=True) if np.isfinite(total)}
    whole = _written(caption)
    return [
        Branch(
            tokenizer.name(beginning[-1]),
            tokenizer.decode(beginning),
            numbers[beginning[:-1]],
            len(beginning) - 1,
            total,
            chosen=whole[: len(beginning)] == beginning,
            dropped=beginning not in parents and beginning not in final,
        )
        for beginning, total in zip(beginnings, reached, strict=True)
    ]


def _written(tokens: Int[np.ndarray, " T"]) -> tuple[int, ...]:
    return tuple(int(token) for token in tokens if token != PAD)
