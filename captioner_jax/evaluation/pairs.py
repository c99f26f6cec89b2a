"""Anybody's captions beside what people wrote: in COCO's files, by ids, or in lists of captions by the images' names.

Such lists are what data sets have (`read_captions`) and what sample.py writes.
"""

import json
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from captioner_jax.data.caption_files import Captions, read_captions
from captioner_jax.errors import UserError
from captioner_jax.evaluation.coco_files import ImageId, read_references, read_results


class Pairs(NamedTuple):
    """A caption of each image that has one, and the references of these and other images."""

    captions: dict[ImageId, str]
    """By the names that the images have among the references."""
    references: Mapping[ImageId, Sequence[str]]

    @property
    def of_these(self) -> list[Sequence[str]]:
        """The references of each caption's image."""
        return [self.references[image] for image in self.captions]


def read_pairs(results: Path, annotations: Path) -> Pairs:
    """Of a COCO results file and an annotations file; or, where one of them is no .json, by the images' names.

    Folders before a name may differ as long as it is clear which image is meant. Raises UserError where a file cannot
    be read, an image has two captions, or one has no references.
    """
    captions = read_results(results) if _is_json(results) else _one_each(results)
    references: Mapping[ImageId, Sequence[str]]
    if _is_json(results) and _is_json(annotations):
        references = read_references(annotations)
        known = {image: image for image in captions if image in references}
    else:
        references = {**_sound(annotations).by_image}
        known = _alike(captions, references)
    if unknown := [image for image in captions if image not in known]:
        raise UserError(
            f"{annotations} has no captions of {len(unknown)} images in {results}: "
            f"{', '.join(json.dumps(image, ensure_ascii=False) for image in unknown[:5])}"
            f"{_other_kind(unknown, references)}"
        )
    if len(set(known.values())) < len(known):
        raise UserError(f"{results} has captions of two files of one name, of which {annotations} knows one")
    return Pairs({known[image]: caption for image, caption in captions.items()}, references)


def _is_json(path: Path) -> bool:
    return path.suffix.lower() == ".json"


def _sound(path: Path) -> Captions:
    """Raises UserError where a line cannot be used, as no score would tell of it."""
    found = read_captions(path)
    if found.problems:
        raise UserError("\n".join([f"{path}: {len(found.problems)} lines cannot be used:", *found.problems[:5]]))
    return found


def _one_each(path: Path) -> dict[ImageId, str]:
    found = _sound(path).by_image
    for image, captions in found.items():
        if len(captions) > 1:
            raise UserError(f"{path}: {len(captions)} captions of {image}, and one is to be scored")
    return {image: captions[0] for image, captions in found.items()}


def _alike(captions: Iterable[ImageId], references: Iterable[ImageId]) -> dict[ImageId, ImageId]:
    """Of captions' images those among the references': the same path, or else the longest that ends with it, or that it
    ends with. Where there are two such, it is not clear which image is meant.
    """
    by_name: dict[str, list[ImageId]] = defaultdict(list)
    for image in references:
        by_name[_parts(image)[-1]].append(image)
    found = {}
    for image in captions:
        alike = {other: _common(_parts(image), _parts(other)) for other in by_name[_parts(image)[-1]]}
        longest = max(alike.values(), default=0)
        best = [image] if image in alike else [other for other, common in alike.items() if common == longest > 0]
        if len(best) == 1:
            found[image] = best[0]
    return found


def _parts(path: ImageId) -> tuple[str, ...]:
    return PurePosixPath(str(path).replace("\\", "/")).parts or ("",)


def _common(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """Names in the shorter of two paths, if the longer ends with it; otherwise 0."""
    shorter = min(len(one), len(other))
    return shorter if one[-shorter:] == other[-shorter:] else 0


def _other_kind(unknown: Iterable[ImageId], references: Container[ImageId]) -> str:
    """A hint where images are numbers in one file and texts in the other."""
    others = (str(image) if isinstance(image, int) else int(image) for image in unknown if str(image).isdecimal())
    return "; there they are numbers, or texts, and here not" if any(image in references for image in others) else ""
