"""Pictures in rows, the caption under each; for the scripts beside this file."""

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

SIDE, TEXT, GAP = 192, 58, 12
BLACK = (20, 20, 20)


class Captioned(NamedTuple):
    """A picture, what is written under it, and in which colour."""

    picture: Image.Image
    caption: str
    ink: tuple[int, int, int] = BLACK


def rows(shown: Sequence[Captioned], columns: int, resampling: Image.Resampling) -> Image.Image:
    """One page; the pictures are squares."""
    count = -(-len(shown) // columns)
    page = Image.new("RGB", (columns * (SIDE + GAP) + GAP, count * (SIDE + TEXT + GAP) + GAP), "white")
    for i, (picture, caption, ink) in enumerate(shown):
        left, top = GAP + (i % columns) * (SIDE + GAP), GAP + (i // columns) * (SIDE + TEXT + GAP)
        page.paste(picture.resize((SIDE, SIDE), resampling), (left, top))
        text = "\n".join(textwrap.wrap(caption, 30))
        ImageDraw.Draw(page).multiline_text((left, top + SIDE + 4), text, ink, ImageFont.load_default(12))
    return page
