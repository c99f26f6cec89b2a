"""The n-grams of candidates and their references as numbers, so that a whole split is counted by sorting."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int

from captioner_jax.text.compiled_ngrams import ORDERS


@dataclasses.dataclass(frozen=True, eq=False)
class Counts:
    """How often n-grams stand in captions: row m says that caption[m] has gram[m] count[m] times.

    Rows are in the order of captions, then of n-grams.
    """

    caption: Int[np.ndarray, " rows"]
    gram: Int[np.ndarray, " rows"]
    count: Int[np.ndarray, " rows"]


@dataclasses.dataclass(frozen=True, eq=False)
class Ngrams:
    """All n-grams of one order, by number: words[begin[g]] and those after it spell gram g."""

    order: int
    counts: Counts
    begin: Int[np.ndarray, " grams"]
    words: Sequence[str]

    def spelled(self) -> Iterator[tuple[str, ...]]:
        """The words of each n-gram, by number."""
        return (tuple(self.words[at : at + self.order]) for at in self.begin.tolist())


def ngrams(captions: Sequence[Sequence[str]]) -> Iterator[Ngrams]:
    """The n-grams of captions, for n = 1 to ORDERS.

    An n-gram's number is its rank among the pairs (number of its first n - 1 words, number of its last word).
    """
    words = list(itertools.chain.from_iterable(captions))
    numbers = {word: number for number, word in enumerate(dict.fromkeys(words))}
    word = np.fromiter(map(numbers.__getitem__, words), np.int64, len(words))
    length = np.fromiter(map(len, captions), np.int64, len(captions))
    caption = np.repeat(np.arange(len(captions)), length)
    end = np.cumsum(length)[caption]
    at, gram = np.arange(len(words)), np.zeros_like(word)
    for order in range(1, ORDERS + 1):
        whole = at + order <= end[at]
        at = at[whole]
        pair = gram[whole] * len(numbers) + word[at + order - 1]
        _, first, gram = np.unique(pair, return_index=True, return_inverse=True)
        rows, count = np.unique(caption[at] * len(first) + gram, return_counts=True)
        yield Ngrams(order, Counts(*np.divmod(rows, max(1, len(first))), count), at[first], words)


def checked(
    candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> Int[np.ndarray, " images"]:
    """How many references each image has. Raises ValueError where what is given cannot be scored."""
    if not candidates or len(candidates) != len(references):
        raise ValueError(f"{len(candidates)} candidates for the references of {len(references)} images")
    captions = itertools.chain(candidates, itertools.chain.from_iterable(references))
    if any(isinstance(caption, str) for caption in captions):
        raise ValueError("captions must be cut into words before they are scored")
    per_image = np.fromiter(map(len, references), np.int64, len(references))
    if not per_image.all():
        raise ValueError(f"image {int(per_image.argmin())} has no references")
    return per_image


def paired(counts: Counts, image: Int[np.ndarray, " references"]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a reference, and of the candidate of the same image, that count the same n-gram.

    Captions are all references, number r of image[r], then the candidates of images 0, 1, 2, ...
    """
    grams = 1 + counts.gram.max(initial=0)
    split = np.searchsorted(counts.caption, len(image))
    wanted = image[counts.caption[:split]] * grams + counts.gram[:split]
    held = (counts.caption[split:] - len(image)) * grams + counts.gram[split:]
    place = np.searchsorted(held, wanted)
    found = np.flatnonzero(np.append(held, -1)[place] == wanted)
    return found, split + place[found]
