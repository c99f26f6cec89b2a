"""What scores do not tell of captions: how varied, how long, how much by heart, how well ended they are."""

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from captioner_jax.text.endings import BAD_ENDINGS


class Diagnostics(NamedTuple):
    """Of many captions; shares are of all captions."""

    captions: int
    vocabulary: int
    """Different words."""
    distinct_1: float
    r"""Different words a word written."""
    distinct_2: float
    r"""Different pairs of neighbouring words a word written."""
    mean_length: float
    """In words."""
    copied: float | None
    """The share that is some training caption word for word; None where these are not given."""
    bad_endings: float
    """The share whose last word is one of BAD_ENDINGS."""
    truncated: float | None
    """The share that came to no end within the length allowed; None where it is not told."""


def diagnose(
    captions: Sequence[Sequence[str]],
    training: Iterable[Sequence[str]] | None = None,
    truncated: Sequence[bool] | None = None,
) -> Diagnostics:
    r"""Diagnostics of captions cut into words.

    $$\text{distinct-}n = \frac{\text{number of different n-grams}}{\text{number of words}}$$

    (Li et al. 2016, "A Diversity-Promoting Objective Function for Neural Conversation Models"): all captions
    taken together, divided by words for n = 2, too. It falls as captions become more, so compare equally many.
    """
    if not captions or any(isinstance(caption, str) for caption in captions):
        raise ValueError("wanted captions, at least one, each a sequence of words")
    if truncated is not None and len(truncated) != len(captions):
        raise ValueError(f"{len(truncated)} times truncated or not, of {len(captions)} captions")
    number, words = len(captions), sum(map(len, captions))
    vocabulary = set(itertools.chain.from_iterable(captions))
    pairs = set(itertools.chain.from_iterable(map(itertools.pairwise, captions)))
    known = None if training is None else {tuple(caption) for caption in training}
    return Diagnostics(
        captions=number,
        vocabulary=len(vocabulary),
        distinct_1=len(vocabulary) / max(words, 1),
        distinct_2=len(pairs) / max(words, 1),
        mean_length=words / number,
        copied=None if known is None else sum(tuple(caption) in known for caption in captions) / number,
        bad_endings=sum(caption[-1] in BAD_ENDINGS for caption in captions if caption) / number,
        truncated=None if truncated is None else sum(truncated) / number,
    )
