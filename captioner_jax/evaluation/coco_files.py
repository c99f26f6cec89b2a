"""Captions and references in the files that the COCO caption evaluation reads."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from captioner_jax.errors import UserError, naming

ImageId = int | str


def image_id(name: str) -> ImageId:
    """The number in a COCO file name such as val2014/COCO_val2014_000000000042.jpg; any other name as it is."""
    found = re.fullmatch(r"(?:COCO_\w+_)?(\d{12})", Path(name).stem)
    return int(found[1]) if found else name


def image_ids(names: Sequence[str]) -> list[ImageId]:
    """Of different images different ones: names as they are, where two would have one number."""
    ids = [image_id(name) for name in names]
    return ids if len(set(ids)) == len(ids) else list(names)


def to_results(names: Sequence[str], captions: Sequence[str]) -> list[dict[str, Any]]:
    """Images with their captions, as a results file holds them."""
    found = zip(image_ids(names), captions, strict=True)
    return [{"image_id": image, "caption": caption} for image, caption in found]


def to_references(names: Sequence[str], captions: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Images with their references, as an annotations file holds them."""
    images, annotations = [], []
    for name, image, of_image in zip(names, image_ids(names), captions, strict=True):
        images.append({"id": image, "file_name": name})
        for caption in of_image:
            annotations.append({"id": len(annotations), "image_id": image, "caption": caption})
    return {"type": "captions", "info": {}, "licenses": [], "images": images, "annotations": annotations}


def read_results(path: Path) -> dict[ImageId, str]:
    """One caption an image. Raises UserError where the file is none of this kind, or names an image twice."""
    captions: dict[ImageId, str] = {}
    content = _read(path)
    if not isinstance(content, list) or not content:
        raise UserError(f'{path}: wanted a list of {{"image_id": ..., "caption": ...}}')
    for number, entry in enumerate(content):
        image, caption = _caption(entry, path, number)
        if image in captions:
            raise UserError(f"{path} entry {number}: image {image} has a caption already")
        captions[image] = caption
    return captions


def read_references(path: Path) -> dict[ImageId, list[str]]:
    """All captions of each image. Raises UserError where the file is none of this kind."""
    content = _read(path)
    entries = content.get("annotations") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise UserError(f'{path}: wanted an object with "annotations"')
    references: dict[ImageId, list[str]] = {}
    for number, entry in enumerate(entries):
        image, caption = _caption(entry, path, number)
        references.setdefault(image, []).append(caption)
    return references


def _caption(entry: Any, path: Path, number: int) -> tuple[ImageId, str]:
    match entry:
        case {"image_id": bool()}:
            pass
        case {"image_id": int() | str() as image, "caption": str() as caption}:
            return image, caption
    raise UserError(f'{path} entry {number}: wanted "image_id" (a number or a text) and the text "caption"')


def _read(path: Path) -> Any:
    try:
        with naming(path):
            return json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}") from error
