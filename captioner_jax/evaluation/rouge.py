"""ROUGE-L (Lin 2004), as the official COCO caption evaluation computes it."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from captioner_jax.evaluation.ngrams import checked

BETA = 1.2


def rouge_l(
    candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> Float[np.ndarray, " images"]:
    r"""ROUGE-L of each image; their mean is the corpus's (Lin 2004, equations 2 to 4):

    $$F = \frac{(1 + \beta^2) P R}{R + \beta^2 P}, \qquad
    P = \max_j \frac{\text{LCS}(c, r_j)}{|c|}, \qquad R = \max_j \frac{\text{LCS}(c, r_j)}{|r_j|}$$

    with beta = 1.2. P and R are each the best over the references r_j of the candidate c, which may be those of two
    different ones. An empty caption equals another empty one and nothing else.
    """
    checked(candidates, references)
    pairs = zip(candidates, references, strict=True)
    return np.asarray([_f(candidate or [""], [words or [""] for words in captions]) for candidate, captions in pairs])


def _f(candidate: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    common = common_lengths(candidate, references)
    precision = max(common) / len(candidate)
    recall = max(length / len(words) for length, words in zip(common, references, strict=True))
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision) if precision else 0.0


def common_lengths(a: Sequence[str], others: Sequence[Sequence[str]]) -> list[int]:
    r"""Lengths of the longest common subsequences of `a` and each of `others`.

    With bit i of M_w set where a_i = w, and all |a| bits of V set at first, each word w of the other caption does

    $$U = V \wedge M_w, \qquad V \leftarrow (V + U) \vee (V - U)$$

    and the bits of V that end as 0 are counted (Hyyrö 2004, "Bit-parallel LCS-length computation revisited"). V is the
    dynamic programme's row for the words so far: bit i is 0 where a_0..a_i has one more in common with them than
    a_0..a_{i-1}.
    """
    matches: dict[str, int] = {}
    for i, word in enumerate(a):
        matches[word] = matches.get(word, 0) | 1 << i
    everything = (1 << len(a)) - 1
    lengths = []
    for words in others:
        row = everything
        for match in filter(None, map(matches.get, words)):
            both = row & match
            row = (row + both) | (row - both)
        lengths.append(len(a) - (row & everything).bit_count())
    return lengths
