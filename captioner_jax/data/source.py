"""What every data set is made of here: captioned images, reached by number."""

import dataclasses
import itertools
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from captioner_jax.printable import printable


class Problem(str):
    """A mistake in the files, in words: where it is, of what kind, and the particulars. They are counted by kind."""

    where: str
    kind: str
    particulars: str

    def __new__(cls, where: str, kind: str, particulars: str = "") -> "Problem":
        self = super().__new__(cls, printable(f"{where}: {kind}" + (f" ({particulars})" if particulars else "")))
        self.where, self.kind, self.particulars = where, kind, particulars
        return self

    def __getnewargs__(self) -> tuple[str, str, str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.where, self.kind, self.particulars


class Example(NamedTuple):
    """One image and what is said of it."""

    name: str
    image: bytes
    """The encoded file."""
    captions: tuple[str, ...]
    facts: str | None = None
    """A drawn scene as JSON, where the truth of a caption can be checked."""
    lost: str | None = None
    """Why the file, which was there as the data were listed, cannot be read now; then `image` is empty."""


class Source(Sequence[Example]):
    """A split: examples 0 ... len - 1, in an order that never changes."""

    def __getitem__(self, i: int) -> Example:  # type: ignore[override]
        """Raises IndexError beyond the last."""
        if not 0 <= i < len(self):
            raise IndexError(f"example {i} of {len(self)}")
        return self.read(int(i))

    @abstractmethod
    def read(self, i: int) -> Example:
        """Example number i, which exists."""

    def captions(self) -> Iterator[tuple[str, ...]]:
        """The captions of all examples, in order."""
        return (example.captions for example in self)

    def shards(self) -> Sequence[str] | None:
        """The file that each example lies in, where many lie in one; None where that is unknown, or they do not."""
        return None


class Joined(Source):
    """Several splits as one, one after the other."""

    def __init__(self, splits: Iterable[Source]):
        self.splits = list(splits)

    def __len__(self) -> int:
        return sum(map(len, self.splits))

    def read(self, i: int) -> Example:
        for split in self.splits:
            if i < len(split):
                return split.read(i)
            i -= len(split)
        raise IndexError(f"there are {len(self)} examples")

    def captions(self) -> Iterator[tuple[str, ...]]:
        return itertools.chain.from_iterable(split.captions() for split in self.splits)


@dataclasses.dataclass(frozen=True)
class DataSet:
    """Splits by name, a line that says what they are, and the mistakes found in the files.

    `validation` and `test` may hold several splits: those of other names than "validation" and "test" are scored
    beside these. Where no image is kept for a test there is none.
    """

    train: Source
    validation: dict[str, Source]
    test: dict[str, Source]
    about: str
    """Which data set, whose splits, how many images to train on: said before a run, so that none is a surprise."""
    problems: tuple[str, ...] = ()
    """In words; those found in captions files and folders are `Problem`s."""

    @staticmethod
    def of(splits: Mapping[str, Source], about: str, problems: Iterable[str]) -> "DataSet":
        """One that has the usual splits; an empty one for tests is none."""
        test = {"test": splits["test"]} if splits.get("test") else {}
        about = about if test else f"{about}; no image is kept for a test"
        return DataSet(splits["train"], {"validation": splits["validation"]}, test, about, tuple(problems))

    @property
    def splits(self) -> dict[str, Source]:
        """All of them."""
        return {"train": self.train} | self.validation | self.test
