"""Is a caption true of its scene? It is read phrase by phrase, and each of its claims is tested against the facts.

A caption is true if the things that it mentions can be found in the scene, each another one, so that every claim holds.
A number is exact: "two circles" is false of three, where "a circle" is true of them. What cannot be read is not true.
"""

import dataclasses
import itertools
import re
from collections.abc import Iterable, Mapping

from captioner_jax.data.shapes.captions import NOUNS, NUMBERS, PATTERNS, PLACES, RELATIONS, SIZES, plural
from captioner_jax.data.shapes.scene import COLOURS, THIRD, Scene, Thing

# How far apart, in pixels, two centres must be for one thing to be left of, or above, the other.
MARGIN = 8.0
# How far beyond a third of the picture, in pixels, a centre may lie to be still called in it.
TOLERANCE = 2.0


@dataclasses.dataclass(frozen=True)
class Verdict:
    """`complete` tells whether a true caption also mentions every thing of its scene, by colour and shape."""

    true: bool
    complete: bool


@dataclasses.dataclass(frozen=True)
class Mention:
    """`number` things that have these attributes, say {"colour": "red", "shape": "circle"}."""

    number: int
    attributes: Mapping[str, str]

    def fits(self, thing: Thing) -> bool:
        return all(getattr(thing, name) == value for name, value in self.attributes.items())


@dataclasses.dataclass(frozen=True)
class Naming:
    """The words of a caption, counted from 0, that speak of these things."""

    words: range
    things: frozenset[Thing]


@dataclasses.dataclass
class Claims:
    """What a caption says; mentions are named by their place in `mentions`."""

    mentions: list[Mention] = dataclasses.field(default_factory=list)
    words: list[range] = dataclasses.field(default_factory=list)
    """Of each mention, counted from 0."""
    counts: list[Mention] = dataclasses.field(default_factory=list)
    relations: list[tuple[int, str, int]] = dataclasses.field(default_factory=list)
    places: list[tuple[int, str]] = dataclasses.field(default_factory=list)
    between: list[tuple[int, int, int]] = dataclasses.field(default_factory=list)
    order: str | None = None
    background: str | None = None


def judge(caption: str, scene: Scene) -> Verdict:
    """Is `caption` true of `scene`, and does it name all that is there? Case and punctuation make no difference."""
    try:
        claims = read(caption)
    except ValueError:
        return Verdict(False, False)
    true = _hold(claims, scene)
    named = sum(mention.number for mention in claims.mentions if {"colour", "shape"} <= mention.attributes.keys())
    return Verdict(true, true and named == len(scene.things))


def namings(caption: str, scene: Scene) -> list[Naming]:
    """Which words of a true caption speak of which things, where its claims leave no choice; none of a false one."""
    if not judge(caption, scene).true:
        return []
    claims = read(caption)
    ways = [_groups(claims, chosen) for chosen in _ways(claims, scene) if _hold_for(claims, chosen)]
    found = []
    for words, *groups in zip(claims.words, *ways, strict=True):
        things = {frozenset(group) for group in groups}
        if len(things) == 1:
            found.append(Naming(words, *things))
    return found


def read(caption: str) -> Claims:
    """The claims of a caption. Raises ValueError, saying from which word on, where it cannot be read."""
    reader = _Reader(" ".join(re.findall(r"\w+", caption.lower())))
    claims = reader.claims()
    if reader.rest:
        raise ValueError(f"cannot read on from {reader.rest!r}")
    return claims


def _meanings(table: Mapping[str, Iterable[str]]) -> dict[str, str]:
    return {phrase: meaning for meaning, phrases in table.items() for phrase in phrases}


_ORDERS = {"from left to right": "x", "from top to bottom": "y"}
_BACKGROUNDS = {f"on a {shade} background": shade for shade in ("dark", "light")}
_COMPARED = {"larger than": "larger", "bigger than": "larger", "smaller than": "smaller"}
_RELATIONS = _meanings(RELATIONS) | _COMPARED
_PLACES = {phrase: cell for cell, phrases in PLACES.items() for phrase in phrases}
_SIZES = _meanings(SIZES)
_SHAPES = _meanings(NOUNS)
_PLURALS = {plural(noun): shape for noun, shape in _SHAPES.items()}
_TEXTURES = {texture: texture for texture in PATTERNS}
_PATTERNS = {f"with {pattern}": texture for texture, pattern in PATTERNS.items()}
_COLOURS = {colour: colour for colour in COLOURS}
_NUMBERS = {"a": 1, "an": 1} | {word: number for number, word in enumerate(NUMBERS) if number}


class _Reader:
    """Reads a caption from the left; `rest` is what is still unread."""

    def __init__(self, words: str):
        self.rest = words
        self.length = len(words.split())
        self.found = Claims()

    @property
    def place(self) -> int:
        """Words read."""
        return self.length - len(self.rest.split())

    def take(self, *phrases: str) -> str | None:
        """The longest of these phrases that comes next, which is then read; or None."""
        for phrase in sorted(phrases, key=len, reverse=True):
            if self.rest == phrase or self.rest.startswith(phrase + " "):
                self.rest = self.rest[len(phrase) + 1 :]
                return phrase
        return None

    def claims(self) -> Claims:
        """caption = [background] [order] [place | relation mention] [there is] [how many] mentions [background]"""
        background = self.take(*_BACKGROUNDS)
        if order := self.take(*_ORDERS):
            self.found.order = _ORDERS[order]
        place, relation = self.take(*_PLACES), self.take(*_RELATIONS)
        other = self.mention() if relation else None
        self.take("there is", "there are")
        self.count_of_shapes()
        first = self.mentions()
        if place:
            self.found.places.append((first, place))
        if relation and other is not None:
            self.found.relations.append((first, _RELATIONS[relation], other))
        named = background or self.take(*_BACKGROUNDS)
        if named:
            self.found.background = _BACKGROUNDS[named]
        return self.found

    def count_of_shapes(self) -> None:
        """count = number shapes"""
        for word, number in _NUMBERS.items():
            if self.take(f"{word} shapes"):
                self.found.counts.append(Mention(number, {}))

    def mentions(self) -> int:
        """mentions = mention {[and] mention}, each with its place or its relation to the next; gives the first"""
        first = last = self.mention()
        while True:
            if place := self.take(*_PLACES):
                self.found.places.append((last, place))
            elif relation := self.take(*_RELATIONS):
                last, before = self.mention(), last
                self.found.relations.append((before, _RELATIONS[relation], last))
            elif self.take("between"):
                middle, one, _, last = last, self.mention(), self.take("and"), self.mention()
                self.found.between.append((one, middle, last))
            elif self.take("and") or self.rest.split(" ")[0] in _NUMBERS:
                last = self.mention()
            else:
                return first

    def mention(self) -> int:
        """mention = number [size] [texture] [colour] (noun [with pattern] | nouns [parts]); gives its place"""
        begin = self.place
        word = self.take(*_NUMBERS)
        if word is None:
            raise ValueError(f"expected a shape before {self.rest!r}")
        attributes: dict[str, str] = {}
        for name, meanings in (("size", _SIZES), ("texture", _TEXTURES), ("colour", _COLOURS)):
            if said := self.take(*meanings):
                attributes[name] = meanings[said]
        nouns = _SHAPES if _NUMBERS[word] == 1 else _PLURALS
        noun = self.take(*nouns)
        if noun is None:
            raise ValueError(f"expected the name of a shape before {self.rest!r}")
        attributes["shape"] = nouns[noun]
        if pattern := self.take(*_PATTERNS):
            attributes["texture"] = _PATTERNS[pattern]
        mention = Mention(_NUMBERS[word], attributes)
        if word not in ("a", "an"):
            self.found.counts.append(mention)
        end = self.place
        parts = self.parts(attributes) if mention.number > 1 else []
        if not parts:
            self.found.mentions.append(mention)
            self.found.words.append(range(begin, end))
        return len(self.found.mentions) - 1

    def parts(self, attributes: dict[str, str]) -> list[Mention]:
        """parts = number colour {[and] number colour}, as in: two stars, one red and one blue"""
        found: list[Mention] = []
        begin = self.place
        while part := self.take(*(f"{j}{n} {c}" for j in ("", "and ") for n in NUMBERS[1:] for c in COLOURS)):
            number, colour = part.removeprefix("and ").split(" ")
            found.append(Mention(_NUMBERS[number], attributes | {"colour": colour}))
            self.found.words.append(range(begin, self.place))
            begin = self.place
        self.found.counts += found
        self.found.mentions += found
        return found


def _hold(claims: Claims, scene: Scene) -> bool:
    if claims.background not in (None, scene.background):
        return False
    if any(sum(map(count.fits, scene.things)) != count.number for count in claims.counts):
        return False
    return any(_hold_for(claims, chosen) for chosen in _ways(claims, scene))


def _ways(claims: Claims, scene: Scene) -> Iterable[tuple[Thing, ...]]:
    """All choices of things for those that are mentioned, in the order of their mention."""
    return itertools.permutations(scene.things, sum(mention.number for mention in claims.mentions))


def _groups(claims: Claims, chosen: tuple[Thing, ...]) -> list[list[Thing]]:
    """The things of each mention."""
    rest = iter(chosen)
    return [list(itertools.islice(rest, mention.number)) for mention in claims.mentions]


def _hold_for(claims: Claims, chosen: tuple[Thing, ...]) -> bool:
    """Do the claims hold when the mentioned things are these, in the order of their mention?"""
    groups = _groups(claims, chosen)
    return (
        all(mention.fits(x) for mention, group in zip(claims.mentions, groups, strict=True) for x in group)
        and all(_is_at(x, _PLACES[phrase]) for i, phrase in claims.places for x in groups[i])
        and all(_related(x, name, y) for i, name, j in claims.relations for x in groups[i] for y in groups[j])
        and all(_between(*xyz) for ijk in claims.between for xyz in itertools.product(*(groups[i] for i in ijk)))
        and (claims.order is None or _before(claims.order, *chosen))
    )


def _is_at(thing: Thing, third: tuple[int, int]) -> bool:
    """In the corner or centre that is named; "at the top" is anywhere along the top, and likewise the other sides."""
    column, row = third
    across, along = _in_third(thing.x, column), _in_third(thing.y, row)
    return across and along if third == (1, 1) else (across or column == 1) and (along or row == 1)


def _in_third(place: float, third: int) -> bool:
    return third * THIRD - TOLERANCE <= place <= (third + 1) * THIRD + TOLERANCE


def _before(axis: str, *things: Thing) -> bool:
    """Does each of them lie clearly left of (axis x), or above (axis y), the next?"""
    return all(getattr(b, axis) - getattr(a, axis) > MARGIN for a, b in itertools.pairwise(things))


def _between(a: Thing, middle: Thing, b: Thing) -> bool:
    return any(_before(axis, *order) for axis in "xy" for order in ((a, middle, b), (b, middle, a)))


def _related(a: Thing, name: str, b: Thing) -> bool:
    sizes = list(SIZES)
    return {
        "left": _before("x", a, b),
        "right": _before("x", b, a),
        "above": _before("y", a, b),
        "below": _before("y", b, a),
        "larger": sizes.index(a.size) > sizes.index(b.size),
        "smaller": sizes.index(a.size) < sizes.index(b.size),
    }[name]
