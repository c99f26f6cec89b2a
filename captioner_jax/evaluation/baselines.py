"""What a captioner must be better than: word statistics that never look at the image."""

import collections
import itertools
import math
from collections.abc import Iterable
from typing import NamedTuple

from captioner_jax.text.special import PAD


class Entropies(NamedTuple):
    """In nats a word, END counted as one."""

    unigram: float
    bigram: float


def entropies(captions: Iterable[Iterable[int]]) -> Entropies:
    r"""Of the words of encoded captions, alone and given the word before:

    $$H(w) = -\sum_w p(w) \log p(w), \qquad H(w \mid u) = -\sum_{u, w} p(u, w) \log p(w \mid u)$$

    (Shannon 1948, sections 6 and 7), with the relative frequencies of these very captions for probabilities: no
    unigram or bigram model, however fitted, needs fewer nats for them.
    """
    words: collections.Counter[int] = collections.Counter()
    pairs: collections.Counter[tuple[int, int]] = collections.Counter()
    before: collections.Counter[int] = collections.Counter()
    for caption in captions:
        ids = [int(i) for i in caption if i != PAD]
        words.update(ids[1:])
        pairs.update(itertools.pairwise(ids))
        before.update(ids[:-1])
    total = words.total()
    unigram = -sum(n * math.log(n / total) for n in words.values()) / total
    bigram = -sum(n * math.log(n / before[u]) for (u, _), n in pairs.items()) / total
    return Entropies(unigram, bigram)
