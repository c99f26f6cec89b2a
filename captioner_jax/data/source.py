"""What every data set is made of here: captioned images, reached by number."""

import dataclasses
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Example(NamedTuple):
    """One image and what is said of it."""

    name: str
    image: bytes
    """The encoded file."""
    captions: tuple[str, ...]
    facts: str | None = None
    """A drawn scene as JSON, where the truth of a caption can be checked."""


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


@dataclasses.dataclass(frozen=True)
class DataSet:
    """Splits by name, and the mistakes found in the files, each in words.

    `validation` and `test` may hold several splits: those of other names than "validation" and "test" are scored
    beside these.
    """

    train: Source
    validation: dict[str, Source]
    test: dict[str, Source]
    problems: tuple[str, ...] = ()
