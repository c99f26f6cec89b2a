"""What a captioner must be better than: word statistics that never look at the image."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from captioner_jax.text.special import PAD, START


class Entropies(NamedTuple):
    """In nats a word, END counted as one."""

    unigram: float
    bigram: float


def entropies(captions: Iterable[Sequence[int] | Int[np.ndarray, " U"]]) -> Entropies:
    r"""Of the words of encoded captions, each from START on, alone and given the word before:

    $$H(w) = -\sum_w p(w) \log p(w), \qquad H(w \mid u) = -\sum_{u, w} p(u, w) \log p(w \mid u)$$

    (Shannon 1948, sections 6 and 7), with the relative frequencies of these very captions for probabilities: no
    unigram or bigram model, however fitted, needs fewer nats for them.
    """
    ids = np.concatenate([np.asarray(caption, np.int64) for caption in captions])
    ids = ids[ids != PAD]
    is_pair = ids[1:] != START
    before, words = ids[:-1][is_pair], ids[1:][is_pair]
    alone, pairs, first = (_n_log_n(of) for of in (words, before * (ids.max() + 1) + words, before))
    total = len(words)
    return Entropies(float(np.log(total) - alone / total), float((first - pairs) / total))


def _n_log_n(ids: Int[np.ndarray, " N"]) -> float:
    r"""$\sum_i n_i \log n_i$ over the numbers that occur, each $n_i$ times."""
    counts = np.unique(ids, return_counts=True)[1]
    return float((counts * np.log(counts)).sum())
