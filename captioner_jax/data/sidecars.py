"""Captions in text files beside their images, x.txt of x.jpg, as `sample.py --write-sidecars` and others write them."""

from collections.abc import Iterator
from pathlib import Path

from captioner_jax.data.caption_files import Captions, Line, gather, text_of
from captioner_jax.data.image_files import Folder
from captioner_jax.errors import UserError

ENDING = ".txt"


def are_there(images: Folder) -> bool:
    """Has an image a text file beside it?"""
    return any(True for _ in _beside(images))


def read_sidecars(images: Folder) -> Captions:
    """A caption a line. Images without a text file have none. Raises UserError where one cannot be read, or all are
    empty."""
    captions = gather(
        Line(f"{file.relative_to(images.path)} line {number}", name, caption)
        for name, file in _beside(images)
        for number, caption in enumerate(text_of(file).split("\n"), 1)
        if caption.strip()
    )
    if not captions.by_image:
        raise UserError("\n".join([f"the text files in {images.path} hold no captions", *captions.problems[:5]]))
    return captions


def _beside(images: Folder) -> Iterator[tuple[str, Path]]:
    for name in images.others(()):
        file = (images.path / name).with_suffix(ENDING)
        if file.is_file():
            yield name, file
