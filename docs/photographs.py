"""Draws docs/photographs.png, in the README: what a captioner writes of photographs.

python docs/photographs.py [CAPTIONER]      default: the captioner that comes with the package
"""

import sys
from pathlib import Path

from captioned import Captioned, rows
from PIL import Image, ImageOps

from captioner_jax import Captioner
from captioner_jax.compilation import keep_compiled
from captioner_jax.data.images import open_image
from captioner_jax.errors import for_people

DOCS = Path(__file__).parent
LIKE_FLICKR8K = ("dog", "trek", "hikers", "waterfall")
UNLIKE = ("boats", "astronaut", "cat", "coffee")
PHOTOGRAPHS = [DOCS / "photographs" / f"{name}.jpg" for name in (*LIKE_FLICKR8K, *UNLIKE)]
BEAMS, SIDE = 5, 384


@for_people
def main(arguments: list[str]) -> int:
    keep_compiled()
    captioner = Captioner.load(*arguments)
    pictures = [open_image(file.read_bytes(), SIDE) for file in PHOTOGRAPHS]
    squares = [ImageOps.pad(picture, (SIDE, SIDE), color="white", centering=(0.5, 1)) for picture in pictures]
    captions = captioner.caption(PHOTOGRAPHS, beam=BEAMS)
    page = rows([Captioned(*one) for one in zip(squares, captions, strict=True)], len(UNLIKE), Image.Resampling.LANCZOS)
    page.save(DOCS / "photographs.png", optimize=True)
    for file, caption in zip(PHOTOGRAPHS, captions, strict=True):
        print(f"{file.name}: {caption}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
