"""Maps over cells laid on the picture, and a sheet of them, one a word (Xu et al. 2015, "Show, Attend and Tell")."""

import contextlib
import math
import textwrap
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont

from captioner_jax.config import Framing
from captioner_jax.data.images import seen_of

TILE, TEXT, GAP, COLUMNS = 224, 24, 12, 5
PAPER, INK, PALE = (255, 255, 255), (24, 24, 28), (110, 110, 120)
# Looked for on this machine where a text has letters beyond ASCII, of which Pillow's own font has none.
FONTS = ("DejaVuSans.ttf", "NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "PingFang.ttc", "msyh.ttc", "arial.ttf")
# That there is in no font.
NO_LETTER = "\uffff"
# How bright the picture stays where nobody looks.
DARKEST = 0.22


def overlaid(picture: Image.Image, map_: Float[np.ndarray, "y x"], framing: Framing) -> Image.Image:
    """The picture in full colour where the map is at its largest, dark and grey where it is zero or less.

    The map covers what the captioner saw; what lies outside it is dark. Between the centres of cells the map is
    interpolated.
    """
    left, top, width, height = seen_of(*picture.size, framing)
    level = Image.fromarray(np.maximum(map_, 0).astype(np.float32) / max(float(map_.max()), 1e-12))
    level = level.resize((round(width), round(height)), Image.Resampling.BICUBIC)
    mask = Image.new("F", picture.size)
    mask.paste(level, (round(left), round(top)))
    share = np.clip(np.asarray(mask), 0, 1)[:, :, None]
    colours = np.asarray(picture.convert("RGB"), np.float32)
    grey = np.asarray(picture.convert("L"), np.float32)[:, :, None] * DARKEST
    return Image.fromarray((share * colours + (1 - share) * grey).round().astype(np.uint8))


def sheet(
    picture: Image.Image,
    titles: Sequence[str],
    maps: Sequence[Float[np.ndarray, "y x"]],
    note: str,
    framing: Framing,
) -> Image.Image:
    """The picture, then once more under each title with its map; the note, which says what is shown, stands below."""
    scale = TILE / max(picture.size)
    picture = picture.resize([max(1, round(side * scale)) for side in picture.size], Image.Resampling.LANCZOS)
    tiles = [picture, *(overlaid(picture, one, framing) for one in maps)]
    columns = min(COLUMNS, len(tiles))
    width, height = TILE + GAP, picture.height + TEXT + GAP
    lines = textwrap.wrap(note, columns * width // 7)
    rows = math.ceil(len(tiles) / columns)
    page = Image.new("RGB", (columns * width + GAP, rows * height + GAP + 18 * len(lines) + GAP), PAPER)
    draw, font, small = ImageDraw.Draw(page), font_for("".join(titles), 17), font_for(note, 13)
    for i, (tile, title) in enumerate(zip(tiles, ["", *titles], strict=True)):
        left, top = GAP + i % columns * width, GAP + i // columns * height
        draw.text((left, top), title, INK, font)
        page.paste(tile, (left + (TILE - tile.width) // 2, top + TEXT))
    draw.multiline_text((GAP, rows * height + GAP), "\n".join(lines), PALE, small)
    return page


def font_for(text: str, size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font that lacks the fewest letters of a text: Pillow's own, or one that is found here."""
    fonts = [ImageFont.load_default(size)]
    for name in () if text.isascii() else FONTS:
        with contextlib.suppress(OSError):
            fonts.append(ImageFont.truetype(name, size))
    return min(fonts, key=lambda font: sum(_drawn(letter, font) == _drawn(NO_LETTER, font) for letter in set(text)))


def _drawn(letter: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> bytes:
    image = Image.new("L", (TILE, TILE))
    ImageDraw.Draw(image).text((0, 0), letter, "white", font)
    return image.tobytes()
