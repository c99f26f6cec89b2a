"""What `sample.py` shows of how a caption came about, as files: a sheet of maps, and a page to explore."""

import io
from pathlib import Path

from PIL import Image

from captioner_jax.captioning import Captioner
from captioner_jax.config import Framing
from captioner_jax.data.images import open_image
from captioner_jax.errors import naming
from captioner_jax.explain.drawing import sheet
from captioner_jax.explain.explained import Explained
from captioner_jax.explain.page import PICTURE, make_page
from captioner_jax.files import write_bytes_whole, write_whole
from captioner_jax.generation.caption import Caption
from captioner_jax.generation.settings import Generation


def show(
    captioner: Captioner, image: bytes, name: str, asked: Generation, attention: Path | None, page: Path | None
) -> Caption:
    """Writes the files that have a path, and gives the caption.

    Raises ImageError for an image of no use, and UserError where a file cannot be written and as `Captioner.explain`.
    """
    written = captioner.written(image, asked)
    told = captioner.explained(written)
    picture = open_image(image, PICTURE // 2)
    if attention is not None:
        file = io.BytesIO()
        attention_sheet(picture, told, captioner.framing).save(file, "PNG")
        with naming(attention):
            write_bytes_whole(attention, file.getvalue())
    if page is not None:
        tree = [] if asked.draws else captioner.searched(written, asked)
        made = make_page(picture, name, told, captioner.grounded(written), tree, captioner.framing)
        with naming(page):
            write_whole(page, made)
    return told.caption


def attention_sheet(picture: Image.Image, told: Explained, framing: Framing) -> Image.Image:
    """For each token the mean attention of all layers' heads."""
    layers, heads = told.looks.shape[:2]
    return sheet(
        picture,
        [f"{token}  {p:.0%}" for token, p in zip(told.tokens, told.probabilities, strict=True)],
        list(told.looks.mean((0, 1))),
        f"Attention for each word, the mean of {layers} layers of {heads} heads, and the word's probability. Full "
        "colour: the word's largest share; dark: none. It says where the captioner looked, not what the word rests on.",
        framing,
    )
