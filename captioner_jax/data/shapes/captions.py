"""What people might say of a scene: several different true captions of it, from its facts and a seed."""

import itertools
from collections.abc import Sequence

import numpy as np

from captioner_jax.data.shapes.scene import CLEAR, THIRD, Scene, Thing

PLAIN = 12.0  # pixels between two centres, along one axis, from which a caption tells how they lie
LONGEST = 15  # words of a caption
NOUNS = {
    "circle": ("circle", "disc"),
    "square": ("square", "box"),
    "triangle": ("triangle",),
    "star": ("star",),
    "cross": ("cross", "plus"),
    "heart": ("heart",),
}
PLURALS = {"box": "boxes", "cross": "crosses", "plus": "pluses"}
SIZES = {"small": ("small", "little"), "large": ("large", "big")}
PATTERNS = {"striped": "stripes", "dotted": "dots"}
COMPARED = {"small": "smaller than", "large": "larger than"}
NUMBERS = ("zero", "one", "two", "three")
PLACES = {
    (0, 0): ("in the top left corner", "at the top left"),
    (1, 0): ("at the top",),
    (2, 0): ("in the top right corner", "at the top right"),
    (0, 1): ("on the left",),
    (1, 1): ("in the middle", "in the centre"),
    (2, 1): ("on the right",),
    (0, 2): ("in the bottom left corner", "at the bottom left"),
    (1, 2): ("at the bottom",),
    (2, 2): ("in the bottom right corner", "at the bottom right"),
}
RELATIONS = {
    "left": ("to the left of", "left of"),
    "right": ("to the right of", "right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}


def plural(noun: str) -> str:
    return PLURALS.get(noun, noun + "s")


def thirds(thing: Thing) -> tuple[int, int] | None:
    """Column and row of the third of the picture that the thing is in, 0 to 2 each; None near a border between two."""
    column, row = int(thing.x // THIRD), int(thing.y // THIRD)
    clear = all(abs(place - border * THIRD) >= CLEAR for place in (thing.x, thing.y) for border in (1, 2))
    return (column, row) if clear else None


def relations(a: Thing, b: Thing) -> list[str]:
    """Where `a` lies as seen from `b`: those of left, right, above, below that a person would say.

    The displacement must be plain, and not small beside that along the other axis.
    """
    across, along = a.x - b.x, a.y - b.y
    found = []
    if abs(across) >= max(PLAIN, abs(along) / 2):
        found.append("left" if across < 0 else "right")
    if abs(along) >= max(PLAIN, abs(across) / 2):
        found.append("above" if along < 0 else "below")
    return found


def twins(things: Sequence[Thing]) -> bool:
    """Are two of them of one colour and shape, so that people would count them rather than tell them apart?"""
    return len({(thing.colour, thing.shape) for thing in things}) < len(things)


class Speaker:
    """Says things of one scene; every choice of words is drawn from `rng`."""

    def __init__(self, scene: Scene, rng: np.random.Generator):
        self.scene = scene
        self.rng = rng

    def one_of(self, options):
        return options[self.rng.integers(len(options))]

    def noun(self, shape: str) -> str:
        return NOUNS[shape][0] if self.rng.random() < 0.75 else self.one_of(NOUNS[shape])

    def thing(self, thing: Thing, size: bool | None = None) -> str:
        """a [small] [striped] red circle, or a [small] red circle with stripes"""
        size = self.rng.random() < 0.3 if size is None else size
        words = [self.one_of(SIZES[thing.size])] if size else []
        after = self.rng.random() < 0.5
        if thing.texture != "plain" and not after:
            words.append(thing.texture)
        words += [thing.colour, self.noun(thing.shape)]
        if thing.texture != "plain" and after:
            words.append("with " + PATTERNS[thing.texture])
        return ("an " if words[0][0] in "aeiou" else "a ") + " ".join(words)

    def caption(self) -> str:
        if twins(self.scene.things):
            return self.of_twins()
        return {1: self.of_one, 2: self.of_two, 3: self.of_three}[len(self.scene.things)]()

    def of_one(self) -> str:
        (thing,) = self.scene.things
        name, background = self.thing(thing), self.background()
        options = [f"{name} {background}", f"there is {name} {background}"]
        if place := self.place(thing):
            options += [f"{name} {place}", f"there is {name} {place}", f"{place} there is {name}"]
            options += [f"{name} {place} {background}"]
        return self.one_of(options)

    def of_two(self) -> str:
        a, b = self.shuffled()
        options = [self.counted()] * 2 if a.shape == b.shape else []
        options += [self.list_of([a, b]), f"there are two shapes, {self.list_of([a, b])}"]
        if related := self.related(a, b):
            options += [related] * 4
            options += [
                f"{self.one_of(RELATIONS[self.one_of(relations(a, b))])} {self.thing(b)} there is {self.thing(a)}"
            ]
        if compared := self.compared(a, b):
            options += [compared] * 2
        return self.one_of(options)

    def of_three(self) -> str:
        a, b, c = self.shuffled()
        options = [self.counted()] if self.alike() else []
        options += [self.list_of([a, b, c]), f"three shapes, {self.list_of([a, b, c])}"]
        if compared := self.compared(a, b):
            options += [f"{compared}, and {self.thing(c)}"]
        if related := self.related(a, b):
            options += [f"{related}, and {self.thing(c)}"] * 2
            if place := self.place(c):
                options += [f"{related}, and {self.thing(c)} {place}"]
        for axis, words in (("x", "from left to right"), ("y", "from top to bottom")):
            first, middle, last = ordered = sorted(self.scene.things, key=lambda thing: getattr(thing, axis))
            if all(getattr(q, axis) - getattr(p, axis) >= PLAIN for p, q in itertools.pairwise(ordered)):
                options += [f"{words}, {self.list_of(ordered)}"] * 2
                options += [f"{self.thing(middle)} between {self.thing(first)} and {self.thing(last)}"]
        return self.one_of(options)

    def of_twins(self) -> str:
        told, background = self.counted(), self.background()
        forms = [told, told, f"there are {told}", f"{told} {background}"]
        return self.one_of([*forms, f"there are {told} {background}", f"{background} there are {told}"])

    def counted(self) -> str:
        """two red circles and a blue square: things of one shape are counted"""
        alike = self.alike()
        told = self.group(alike)
        for other in self.scene.things:
            if other not in alike:
                told += f"{',' * (',' in told)} and {self.thing(other)}"
        return told

    def background(self) -> str:
        return f"on a {self.scene.background} background"

    def place(self, thing: Thing) -> str | None:
        third = thirds(thing)
        return self.one_of(PLACES[third]) if third else None

    def shuffled(self) -> list[Thing]:
        return [self.scene.things[i] for i in self.rng.permutation(len(self.scene.things))]

    def alike(self) -> list[Thing]:
        """The largest set of two or more things of one shape, or none."""
        shapes = [thing.shape for thing in self.scene.things]
        most = max(shapes, key=shapes.count)
        return [thing for thing in self.scene.things if thing.shape == most] if shapes.count(most) > 1 else []

    def list_of(self, things: list[Thing]) -> str:
        *first, last = [self.thing(thing) for thing in things]
        return f"{', '.join(first)} and {last}"

    def related(self, a: Thing, b: Thing) -> str | None:
        """a red circle above a blue square; None where they lie too close or too much askew to tell"""
        names = relations(a, b)
        return f"{self.thing(a)} {self.one_of(RELATIONS[self.one_of(names)])} {self.thing(b)}" if names else None

    def compared(self, a: Thing, b: Thing) -> str | None:
        """a red circle larger than a blue square; None where both are large or small"""
        a_name, b_name = self.thing(a, size=False), self.thing(b, size=False)
        return f"{a_name} {COMPARED[a.size]} {b_name}" if a.size != b.size else None

    def group(self, things: list[Thing]) -> str:
        """two red circles; two circles, one red and one blue; three stars, two red and one blue"""
        noun = plural(self.noun(things[0].shape))
        number = NUMBERS[len(things)]
        colours = [thing.colour for thing in things]
        counts = sorted(((colours.count(c), c) for c in set(colours)), key=lambda pair: (-pair[0], pair[1]))
        if len(counts) == 1:
            return f"{number} {colours[0]} {noun}"
        *first, last = [f"{NUMBERS[count]} {colour}" for count, colour in counts]
        return f"{number} {noun}, {', '.join(first)} and {last}"


def captions(scene: Scene, rng: np.random.Generator, count: int) -> list[str]:
    """`count` captions of the scene, all different where it offers as many, of up to LONGEST words."""
    speaker = Speaker(scene, rng)
    told: list[str] = []
    for _ in range(20 * count):
        caption = speaker.caption()
        if caption not in told and len(caption.split()) <= LONGEST:
            told.append(caption)
        if len(told) == count:
            break
    return told
