"""Draws docs/attention.png: where a captioner looks for each word of what it writes of a scene that no split holds.

python docs/attention.py [CAPTIONER]      default: runs/shapes/captioner
"""

import sys
from pathlib import Path

import numpy as np

from captioner_jax import Captioner
from captioner_jax.compilation import keep_compiled
from captioner_jax.data.images import open_image
from captioner_jax.data.shapes.builder import SPLITS, jpeg
from captioner_jax.data.shapes.scene import make_scene
from captioner_jax.errors import for_people
from captioner_jax.showing import attention_sheet

ROOT = Path(__file__).parent.parent
SCENE = 5
WIDTH = 800


@for_people
def main(arguments: list[str]) -> int:
    keep_compiled()
    captioner = Captioner.load(arguments[0] if arguments else ROOT / "runs" / "shapes" / "captioner")
    rng = np.random.default_rng([len(SPLITS), SCENE])
    file = jpeg(make_scene(rng, held_out=False), rng)
    told = captioner.explain(file)
    sheet = attention_sheet(open_image(file, captioner.image_size), told, captioner.framing)
    sheet.thumbnail((WIDTH, sheet.height))
    sheet.quantize(256).save(ROOT / "docs" / "attention.png", optimize=True)
    print(f"docs/attention.png: {told.caption.text}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
