"""Draws docs/shapes.png, the README's picture: scenes that no split holds, and what a captioner writes of them.

python docs/picture.py [CAPTIONER]      default: runs/shapes/captioner
"""

import sys
from pathlib import Path

import numpy as np
from captioned import BLACK, Captioned, rows
from PIL import Image

from captioner_jax import bundle
from captioner_jax.compilation import keep_compiled
from captioner_jax.data.images import open_image, to_square
from captioner_jax.data.shapes.builder import SPLITS, jpeg
from captioner_jax.data.shapes.scene import make_scene
from captioner_jax.data.shapes.truth import judge
from captioner_jax.errors import for_people
from captioner_jax.generation.writing import make_writer

ROOT = Path(__file__).parent.parent
COLUMNS, ROWS = 5, 2  # the second row holds combinations never seen in training
INK = {True: BLACK, False: (190, 20, 20)}


@for_people
def main(arguments: list[str]) -> int:
    keep_compiled()
    captioner = bundle.load(Path(arguments[0]) if arguments else ROOT / "runs" / "shapes" / "captioner")
    rngs = [np.random.default_rng([len(SPLITS), i]) for i in range(COLUMNS * ROWS)]
    scenes = [make_scene(rng, held_out=i >= COLUMNS) for i, rng in enumerate(rngs)]
    files = [jpeg(scene, rng) for scene, rng in zip(scenes, rngs, strict=True)]
    size, framing = captioner.preprocessing.image_size, captioner.preprocessing.framing
    images = [open_image(file, size) for file in files]
    write = make_writer(captioner.graphdef, captioner.preprocessing, length=captioner.max_length, beams=1)
    squares = np.stack([to_square(image, size, framing) for image in images])
    tokens = write(captioner.parameters, squares).tokens[:, 0]
    captions = [captioner.tokenizer.decode(np.asarray(ids)) for ids in tokens]
    inks = [INK[judge(caption, scene).true] for caption, scene in zip(captions, scenes, strict=True)]
    shown = [Captioned(*one) for one in zip(images, captions, inks, strict=True)]
    page = rows(shown, COLUMNS, Image.Resampling.NEAREST)
    page.save(ROOT / "docs" / "shapes.png", optimize=True)
    print("docs/shapes.png: scenes above are of seen, below of held-out combinations; false captions are red")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
