"""Pictures with what the captioner writes of them, for TensorBoard."""

import textwrap
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from captioner_jax.data.images import open_image
from captioner_jax.evaluation.split import Scores, Written

SIDE, GAP, LINE = 288, 8, 18
PAPER, INK, FALSE = "white", (24, 24, 28), (190, 20, 20)


class Exhibit(NamedTuple):
    """A picture with its caption under it; and the caption beside a person's, as text, which any script can be."""

    pixels: UInt8[np.ndarray, "Y X 3"]
    text: str


def gallery(scores: dict[str, Scores], examples: int) -> dict[str, Exhibit]:
    """The first pictures of each split, by names such as validation/1; captions that are not true are red."""
    return {
        f"{split}/{number}": Exhibit(_hung(one), f"{one.caption or '(nothing)'}\n\nfor: {one.example.captions[0]}")
        for split, of in scores.items()
        for number, one in enumerate(of.written[:examples], 1)
    }


def _hung(one: Written) -> UInt8[np.ndarray, "Y X 3"]:
    picture = open_image(one.example.image, SIDE // 2)
    scale = SIDE / max(picture.size)
    picture = picture.resize([max(1, round(side * scale)) for side in picture.size])
    lines = textwrap.wrap(one.caption or "(nothing)", SIDE // 7)
    page = Image.new("RGB", (SIDE, picture.height + 2 * GAP + LINE * len(lines)), PAPER)
    page.paste(picture, ((SIDE - picture.width) // 2, 0))
    ink = FALSE if one.verdict is not None and not one.verdict.true else INK
    draw, place = ImageDraw.Draw(page), (GAP, picture.height + GAP)
    draw.multiline_text(place, "\n".join(lines), ink, ImageFont.load_default(13))
    return np.asarray(page)
