"""Scenes of one to three coloured shapes: what may stand in one, and how it is drawn.

Positions and radii are in pixels of a 64 x 64 picture, x to the right and y down, both from the top left corner.
"""

import dataclasses
import json
import math
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

PICTURE = 64
THIRD = PICTURE / 3
SMOOTH = 3  # drawn this much larger, then reduced, so that edges are smooth
CLEAR = 3.0  # captions name a third of the picture only where the centre is this far from its border

SHAPES = ("circle", "square", "triangle", "star", "cross", "heart")
COLOURS = {
    "red": (212, 44, 44),
    "orange": (240, 136, 30),
    "yellow": (240, 220, 50),
    "green": (52, 158, 62),
    "turquoise": (64, 206, 206),
    "blue": (44, 72, 206),
    "purple": (132, 50, 168),
    "pink": (246, 140, 190),
}
TEXTURES = ("plain", "striped", "dotted")
RADII = {"small": (9.2, 10.2), "large": (13.6, 15.0)}
EDGE = (12, 12, 16)
BACKGROUNDS = {"dark": (50, 100), "light": (170, 230)}

# Colour and shape pairs that no training scene holds: every colour once, every shape at least once.
HELD_OUT = frozenset(
    {
        ("red", "square"),
        ("orange", "star"),
        ("yellow", "heart"),
        ("green", "circle"),
        ("turquoise", "triangle"),
        ("blue", "cross"),
        ("purple", "star"),
        ("pink", "square"),
    }
)
PAIRS = tuple((colour, shape) for colour in COLOURS for shape in SHAPES)


@dataclasses.dataclass(frozen=True)
class Thing:
    """One shape of a scene, its centre at (x, y)."""

    shape: str
    colour: str
    texture: str
    size: str
    x: float
    y: float
    radius: float


@dataclasses.dataclass(frozen=True)
class Scene:
    """All that is true of a picture, for captions to be made from and checked against."""

    things: tuple[Thing, ...]
    background: Literal["dark", "light"]

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    def from_json(text: str) -> "Scene":
        facts = json.loads(text)
        return Scene(tuple(Thing(**thing) for thing in facts["things"]), facts["background"])


def make_scene(rng: np.random.Generator, *, held_out: bool) -> Scene:
    """A scene with seen colour and shape pairs only, or with at least one held-out pair."""
    pairs = _pairs(rng, int(rng.choice((1, 2, 3), p=(0.25, 0.5, 0.25))), held_out)
    count = len(pairs)
    things: list[Thing] = []
    while len(things) < count:
        thing = _make_thing(rng, pairs[len(things)])
        if all(math.dist((thing.x, thing.y), (o.x, o.y)) > thing.radius + o.radius + 1 for o in things):
            things.append(thing)
        elif rng.random() < 0.02:
            things.clear()  # those placed may leave no room for the next
    return Scene(tuple(things), "dark" if rng.random() < 0.5 else "light")


def _pairs(rng: np.random.Generator, count: int, held_out: bool) -> list[tuple[str, str]]:
    """Colours and shapes of a scene's things; those of one colour are also of one shape.

    Often they are all alike, or differ in nothing but colour, so that there is something to count.
    """
    seen = [pair for pair in PAIRS if pair not in HELD_OUT]
    options = sorted(HELD_OUT) if held_out else seen
    first = options[rng.integers(len(options))]
    if rng.random() < 0.2:
        return [first] * count
    pairs = [first]
    while len(pairs) < count:
        shapes = {first[1]} if rng.random() < 0.3 else set(SHAPES)
        options = [pair for pair in seen if pair[1] in shapes and pair[0] not in {colour for colour, _ in pairs}]
        pairs.append(options[rng.integers(len(options))])
    return pairs


def _make_thing(rng: np.random.Generator, pair: tuple[str, str]) -> Thing:
    colour, shape = pair
    texture = TEXTURES[rng.choice(3, p=(0.4, 0.3, 0.3))]
    size = ("small", "large")[rng.integers(2)]
    radius = rng.uniform(*RADII[size])
    x, y = map(float, rng.uniform(radius, PICTURE - radius, 2))
    return Thing(shape, colour, texture, size, round(x, 1), round(y, 1), round(radius, 1))


def draw(scene: Scene, rng: np.random.Generator) -> Image.Image:
    """The scene as an RGB picture of 64 x 64 pixels; the same scene and generator state give the same pixels."""
    picture = Image.fromarray(_background(scene.background, rng))
    for thing in scene.things:
        _paste(picture, thing, rng)
    pixels = np.asarray(picture, np.float32)
    pixels = pixels + rng.normal(0, rng.uniform(1, 5), pixels.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _background(shade: str, rng: np.random.Generator) -> np.ndarray:
    """A greyish tint that changes slowly across the picture, in one direction or in blotches."""
    tint = rng.uniform(*BACKGROUNDS[shade]) + rng.uniform(-14, 14, 3)
    across = np.linspace(-1, 1, PICTURE)
    if rng.random() < 0.5:
        angle = rng.uniform(0, 2 * math.pi)
        change = math.cos(angle) * across[None, :] + math.sin(angle) * across[:, None]
    else:
        blotches = rng.uniform(-127, 127, (5, 5)).astype(np.float32)
        change = np.asarray(Image.fromarray(blotches).resize((PICTURE, PICTURE), Image.Resampling.BICUBIC)) / 127
    pixels = tint[None, None, :] + 14 * change[:, :, None]
    return np.clip(pixels, 0, 255).astype(np.uint8)


def _paste(picture: Image.Image, thing: Thing, rng: np.random.Generator) -> None:
    """Draws one shape in place, at SMOOTH times the size and then reduced."""
    radius = thing.radius
    colour = np.clip(np.asarray(COLOURS[thing.colour]) + rng.uniform(-16, 16, 3), 0, 255)
    half = math.ceil(radius) + 1
    left, top = round(thing.x) - half, round(thing.y) - half
    side = 2 * half * SMOOTH
    centre = ((thing.x - left) * SMOOTH, (thing.y - top) * SMOOTH)
    outline = [(centre[0] + x * radius * SMOOTH, centre[1] + y * radius * SMOOTH) for x, y in _outline(thing, rng)]
    fill = Image.fromarray(_texture(thing, colour, side, rng))
    ImageDraw.Draw(fill).polygon(outline, outline=EDGE, width=round(1.2 * SMOOTH))
    mask = Image.new("L", (side, side))
    ImageDraw.Draw(mask).polygon(outline, fill=255)
    small = (2 * half, 2 * half)
    picture.paste(fill.resize(small, Image.Resampling.BOX), (left, top), mask.resize(small, Image.Resampling.BOX))


def _outline(thing: Thing, rng: np.random.Generator) -> np.ndarray:
    """Corners [points, 2] of a shape within the unit circle, turned a little."""
    turn = math.radians(rng.uniform(-10, 10))
    corners = np.asarray(OUTLINES[thing.shape])
    rotation = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    return corners @ rotation


def _around(angles: np.ndarray, radii: np.ndarray | float = 1.0) -> np.ndarray:
    """Points at these angles from the top, clockwise, at these distances from the centre."""
    return np.stack([radii * np.sin(angles), -radii * np.cos(angles)], axis=-1)


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * math.pi, 40)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return np.stack([x, y], axis=-1) / 17


_ARM = 0.3
OUTLINES = {
    "circle": _around(np.linspace(0, 2 * math.pi, 40)) * 0.9,
    "square": np.array([(-0.86, -0.86), (0.86, -0.86), (0.86, 0.86), (-0.86, 0.86)]),
    "triangle": _around(np.array([0, 1, 2]) * 2 * math.pi / 3) * 1.05,
    "star": _around(np.arange(10) * math.pi / 5, np.array([1.08, 0.4] * 5)),
    "cross": np.array(
        [
            *[(-_ARM, -1), (_ARM, -1), (_ARM, -_ARM), (1, -_ARM), (1, _ARM), (_ARM, _ARM)],
            *[(_ARM, 1), (-_ARM, 1), (-_ARM, _ARM), (-1, _ARM), (-1, -_ARM), (-_ARM, -_ARM)],
        ]
    ),
    "heart": _heart(),
}


def _texture(thing: Thing, colour: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """A square of uint8 pixels [side side 3] to cut the shape from: light marks, so that only edges are dark.

    Marks grow with the thing and dots start from its centre, so that narrow shapes show them too.
    """
    y, x = (np.mgrid[0:side, 0:side] + 0.5 - side / 2) / (SMOOTH * thing.radius)
    marks = np.zeros((side, side), bool)
    if thing.texture == "striped":
        angle, phase = math.radians(rng.uniform(30, 60)), rng.uniform(0, 2 * math.pi)
        marks = np.sin((x * math.cos(angle) + y * math.sin(angle)) * 2 * math.pi / 0.55 + phase) > 0.2
    elif thing.texture == "dotted":
        marks = ((x + 0.35) % 0.7 - 0.35) ** 2 + ((y + 0.35) % 0.7 - 0.35) ** 2 < 0.24**2
    return np.where(marks[:, :, None], 0.25 * colour + 0.75 * 250, colour).astype(np.uint8)
