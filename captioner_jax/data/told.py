"""All captions of a split as one array of token ids, so that a batch's captions are cut out, not read and parsed."""

import dataclasses
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Int

from captioner_jax.errors import UserError
from captioner_jax.text.special import UNKNOWN
from captioner_jax.text.tokenizer import Tokenizer, framed

# Beginnings of left and right in English, German, French, Spanish, Portuguese, Italian, and Chinese or Japanese.
_SIDES = r"left|right|links|rechts|linke|rechte|gauche|droit|izquierd|derech|esquerd|direit|sinistr|destr[ao]\b"
_SIDED = re.compile(rf"\b({_SIDES})|左|右", re.IGNORECASE)


@dataclasses.dataclass(frozen=True, eq=False)
class Told:
    """The captions of each image, in the order of the split.

    Image i has captions first[i] up to first[i + 1]; caption j has the ids begin[j] up to begin[j + 1].
    """

    ids: Int[np.ndarray, " tokens"]
    begin: Int[np.ndarray, " begins"]
    first: Int[np.ndarray, " firsts"]
    sided: Bool[np.ndarray, " captions"]
    """Those that tell left from right, and are false of a mirrored image."""

    @staticmethod
    def of(captions: Sequence[Sequence[str]], tokenizer: Tokenizer) -> "Told":
        """The captions of a split's images. Raises UserError where one has none."""
        for image, some in enumerate(captions):
            if not some:
                raise UserError(f"image {image} of the training split has no captions: leave it out, or write one")
        flat = list(itertools.chain.from_iterable(captions))
        ids = tokenizer.encode_all(flat)
        return Told(
            ids=np.fromiter(itertools.chain.from_iterable(ids), np.int32),
            begin=_sums(map(len, ids)),
            first=_sums(map(len, captions)),
            sided=np.asarray([_SIDED.search(caption) is not None for caption in flat], bool),
        )

    def sided_by_image(self) -> "Told":
        """The same, where one caption that tells left from right forbids to mirror its image with any other."""
        by_image = np.logical_or.reduceat(self.sided, self.first[:-1])
        return dataclasses.replace(self, sided=np.repeat(by_image, np.diff(self.first)))

    def __len__(self) -> int:
        return len(self.first) - 1

    @property
    def unknown(self) -> float:
        """The share of the tokens that stand for words which the vocabulary does not have."""
        return float((self.ids == UNKNOWN).mean()) if self.ids.size else 1.0

    def cut(self, length: int) -> float:
        """The share of the captions that have more than so many tokens, END included."""
        return float((np.diff(self.begin) >= length).mean())

    def count(self, image: int | np.integer) -> int:
        """How many captions an image has."""
        return int(self.first[image + 1] - self.first[image])

    def length(self, caption: int | np.integer) -> int:
        """Of a caption, in tokens, END included."""
        return int(self.begin[caption + 1] - self.begin[caption]) + 1

    def row(self, caption: int | np.integer, length: int) -> Int[np.ndarray, " U"]:
        """START, the tokens, END, then PAD: U = length + 1 ids. A caption too long is cut, and then has no END."""
        return framed(self.ids[self.begin[caption] : self.begin[caption + 1]], length)

    def rows(self, length: int) -> Iterator[Int[np.ndarray, " U"]]:
        """All captions."""
        return (self.row(caption, length) for caption in range(len(self.sided)))


def _sums(lengths: Iterable[int]) -> Int[np.ndarray, " n"]:
    return np.concatenate([[0], np.cumsum(np.fromiter(lengths, np.int64))])
