"""Document frequencies of n-grams as a hash table of numbers, for looking up inside a compiled function."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from captioner_jax.evaluation.ngrams import ORDERS

# Entries of a bucket; as many are looked at for each n-gram, whichever of them it is.
SLOTS = 8


class NgramTable(NamedTuple):
    """The n-grams that stand in the references of two images or more, by number.

    An n-gram's number is found by that of its first n - 1 words and its last word; the empty one's is 0. An n-gram that
    is not here has the last number, as have all that begin with it: those that stand in one image's references weigh as
    much as those that stand in none.
    """

    buckets: Int[Array, "buckets SLOTS 3"]
    """Number of the n - 1 words, the last word, number of the n words; -1 where a bucket is not full."""
    idf: Float[Array, " numbers"]
    """log |I| - log max(1, df)."""

    @staticmethod
    def of(references: Sequence[Sequence[Sequence[int]]]) -> "NgramTable":
        """Of the references of images, which are captions of word ids."""
        found, df = _shared(references)
        idf = np.log(float(len(references))) - np.log(np.concatenate([[1.0], df, [1.0]]))
        return NgramTable(jnp.asarray(_bucketed(found)), jnp.asarray(idf, jnp.float32))

    def weights(self, words: Int[Array, "*B T"]) -> list[Float[Array, "*B _"]]:
        """The idf of the n-grams that begin at each place, for n = 1 ... ORDERS, at T - n + 1 places."""
        length = words.shape[-1]
        number = jnp.zeros_like(words)
        weights = []
        for n in range(1, min(ORDERS, length) + 1):
            number = self._longer(number[..., : length - n + 1], words[..., n - 1 :])
            weights.append(self.idf[number])
        return weights

    def _longer(self, number: Int[Array, "*B T"], word: Int[Array, "*B T"]) -> Int[Array, "*B T"]:
        """The numbers of n-grams that are one word longer."""
        entries = self.buckets[_bucket(number, word, len(self.buckets))]
        is_it = (entries[..., 0] == number[..., None]) & (entries[..., 1] == word[..., None])
        return jnp.where(is_it, entries[..., 2], 0).sum(-1) + jnp.where(is_it.any(-1), 0, len(self.idf) - 1)


def _shared(
    references: Sequence[Sequence[Sequence[int]]],
) -> tuple[Int[np.ndarray, "grams 3"], Int[np.ndarray, " grams"]]:
    """Entries of the n-grams of all orders that stand in two images or more, and in how many each does.

    What a shared n-gram begins with is shared by at least as many, so that only shared ones need be made longer.
    """
    captions = list(itertools.chain.from_iterable(references))
    words = np.fromiter(itertools.chain.from_iterable(captions), np.int64)
    lengths = np.fromiter(map(len, captions), np.int64, len(captions))
    end = np.repeat(np.cumsum(lengths), lengths)
    image = np.repeat(np.repeat(np.arange(len(references)), list(map(len, references))), lengths)
    at, number = np.arange(len(words)), np.zeros_like(words)
    entries, frequencies, known = [np.zeros((0, 3), np.int64)], [np.zeros(0, np.int64)], 1
    for n in range(1, ORDERS + 1):
        whole = at + n <= end[at]
        at, number = at[whole], number[whole]
        pairs, gram = np.unique(np.stack([number, words[at + n - 1]], 1), axis=0, return_inverse=True)
        gram = gram.reshape(-1)
        by_image = np.unique(np.stack([gram, image[at]], 1), axis=0)
        df = np.bincount(by_image[:, 0], minlength=len(pairs))
        shared = df > 1
        new = np.where(shared, known + np.cumsum(shared) - 1, 0)
        entries.append(np.column_stack([pairs[shared], new[shared]]))
        frequencies.append(df[shared])
        known += int(shared.sum())
        at, number = at[shared[gram]], new[gram][shared[gram]]
    return np.concatenate(entries), np.concatenate(frequencies)


def _bucketed(entries: Int[np.ndarray, "grams 3"]) -> Int[np.ndarray, "buckets SLOTS 3"]:
    """The entries in as few buckets as hold them, a power of two."""
    count = 1 << max(0, (len(entries) // (SLOTS // 2)).bit_length())
    while True:
        bucket = _bucket(entries[:, 0].astype(np.int32), entries[:, 1].astype(np.int32), count)
        order = np.argsort(bucket, kind="stable")
        sizes = np.bincount(bucket, minlength=count)
        if sizes.max(initial=0) <= SLOTS:
            break
        count *= 2
    slot = np.arange(len(entries)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    buckets = np.full((count, SLOTS, 3), -1, np.int32)
    buckets[bucket[order], slot] = entries[order]
    return buckets


def _bucket(number: Any, word: Any, count: int) -> Any:
    """Where to look for an n-gram, in NumPy as in JAX: multiplication spreads, and the upper bits are spread best."""
    mixed = number.astype("uint32") * np.uint32(0x9E3779B1) + word.astype("uint32") * np.uint32(0x85EBCA77)
    mixed = (mixed ^ (mixed >> np.uint32(15))) * np.uint32(0x2C1B3C6D)
    return ((mixed ^ (mixed >> np.uint32(13))) % np.uint32(count)).astype("int32")
