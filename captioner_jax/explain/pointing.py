"""The pointing game (Zhang et al. 2016, "Top-down Neural Attention", section 4.1): does a map point at what is named?

On drawn scenes the truth is known. A hit is a map whose largest cell has its centre in the box of a thing that the word
names; the words are the colours and shapes of things in captions that are true. What a cell chosen at random would hit
is the share of cells in these boxes.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from captioner_jax.data.shapes.captions import NOUNS, plural
from captioner_jax.data.shapes.scene import COLOURS, PICTURE, Scene, Thing
from captioner_jax.data.shapes.truth import namings

SHAPE_WORDS = frozenset(word for nouns in NOUNS.values() for noun in nouns for word in (noun, plural(noun)))


class Pointer(NamedTuple):
    """A word of a caption, by its place, that names things by colour or by shape, and the cells that lie on them."""

    place: int
    is_colour: bool
    targets: Bool[np.ndarray, "y x"]


def pointers(words: Sequence[str], scene: Scene, grid: tuple[int, int]) -> list[Pointer]:
    """Of a caption of a scene; none of a false one, nor where it is open which things a word names."""
    return [
        Pointer(place, words[place] in COLOURS, cells_on(one.things, grid))
        for one in namings(" ".join(words), scene)
        for place in one.words
        if words[place] in COLOURS or words[place] in SHAPE_WORDS
    ]


def cells_on(things: Iterable[Thing], grid: tuple[int, int]) -> Bool[np.ndarray, "y x"]:
    """Cells whose centres lie in the box of one of these things."""
    y, x = ((np.arange(cells) + 0.5) * PICTURE / cells for cells in grid)
    on = np.zeros(grid, bool)
    for thing in things:
        on |= (np.abs(y - thing.y) <= thing.radius)[:, None] & (np.abs(x - thing.x) <= thing.radius)[None, :]
    return on


class Hits(NamedTuple):
    """Shares of colour words and of shape words whose map points at what they name; None where there are none."""

    colours: float | None
    shapes: float | None


def hits(found: Sequence[Pointer], maps: Mapping[str, Sequence[Float[np.ndarray, "y x"]]]) -> dict[str, Hits]:
    """Of maps by name, each a list of one map a pointer; and of chance."""
    return {name: _by_kind(found, map(_hit, found, its)) for name, its in maps.items()} | {
        "chance": _by_kind(found, (one.targets.mean() for one in found))
    }


def _hit(pointer: Pointer, map_: Float[np.ndarray, "y x"]) -> float:
    return float(pointer.targets.ravel()[map_.argmax()])


def _by_kind(found: Sequence[Pointer], scores: Iterable[float]) -> Hits:
    kinds: dict[bool, list[float]] = {True: [], False: []}
    for one, score in zip(found, scores, strict=True):
        kinds[one.is_colour].append(score)
    return Hits(*(float(np.mean(its)) if its else None for its in kinds.values()))
