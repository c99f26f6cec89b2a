"""Flickr8k and Flickr30k as people hold them: the authors' files, Karpathy's JSON, or Kaggle's copies."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from captioner_jax.config import DataConfig
from captioner_jax.data import splits
from captioner_jax.data.caption_files import Captions, read_captions
from captioner_jax.data.file_source import data_set, folder_of, found
from captioner_jax.data.image_files import ImageFiles, folders, open_images
from captioner_jax.data.source import DataSet, Problem
from captioner_jax.errors import UserError

# Names of captions files that people give to their own.
_TELL_NOTHING = {"captions.txt", "results.csv"}


class Kind(NamedTuple):
    """How one of the two is handed out."""

    name: str
    captions: tuple[str, ...]
    """Captions files; the first that is there is read."""
    karpathy: str
    """Karpathy's captions and splits."""
    lists: dict[str, str]
    """The authors' lists of the images of each split."""
    images: tuple[str, ...]
    """Folders, or tars of these names, that the images lie in; else they lie in data.path itself."""
    kaggle: tuple[str, str]
    """Kaggle's captions file, which others have, too, and the folder of photographs beside it."""
    places: str
    """Where people get it."""

    def is_told_by(self, names: set[str]) -> bool:
        """Is this what files and folders of these names speak of?"""
        telling = {self.karpathy, *self.lists.values(), *self.captions} - _TELL_NOTHING
        return bool(telling & names) or names.issuperset(self.kaggle)


KINDS = {
    "flickr8k": Kind(
        name="Flickr8k",
        captions=("Flickr8k.token.txt", "dataset_flickr8k.json", "captions.txt"),
        karpathy="dataset_flickr8k.json",
        lists={
            "train": "Flickr_8k.trainImages.txt",
            "validation": "Flickr_8k.devImages.txt",
            "test": "Flickr_8k.testImages.txt",
        },
        images=("Flicker8k_Dataset", "Flickr8k_Dataset", "Images", "images", "flickr8k-images", "flickr8k_images"),
        kaggle=("captions.txt", "Images"),
        places="kaggle.com/datasets/adityajn105/flickr8k, or the authors' request form (docs/data.md)",
    ),
    "flickr30k": Kind(
        name="Flickr30k",
        captions=("dataset_flickr30k.json", "results_20130124.token", "results.csv", "captions.txt"),
        karpathy="dataset_flickr30k.json",
        lists={},
        images=("flickr30k-images", "flickr30k_images", "Images", "images"),
        kaggle=("results.csv", "flickr30k_images"),
        places="shannon.cs.illinois.edu/DenotationGraph, or kaggle.com/datasets/hsankesara/flickr-image-dataset",
    ),
}
# Images that both data sets hold out for validation, and again for test; and the share where there are too few. Not
# `config.held_out`: splits are drawn once, when the data set is prepared, and would not follow it.
USUAL, SHARE = 1_000, 0.1


def wanted(kind: Kind) -> str:
    """What must lie in data.path, in words."""
    lists = f", {' '.join(kind.lists.values())}" if kind.lists else ""
    return (
        f"a folder with the photographs (in {kind.images[0]}/, Images/ or images.tar), the captions "
        f"({' or '.join(kind.captions)}) and the splits ({kind.karpathy}{lists}). People get them from {kind.places}"
    )


def load(config: DataConfig) -> DataSet:
    """The Flickr8k or Flickr30k that lies in `config.path`. Raises UserError where it does not."""
    kind = KINDS[config.source]
    root = folder_of(config.path)
    file = caption_file(root, kind, config)
    captions = read_captions(file)
    images = _images(root, kind, config, list(captions.by_image))
    problems = list(captions.problems)
    names = found(captions.by_image, images, root, problems)
    whose, divided = _divided(root, kind, captions, names, problems)
    about = f"{kind.name}, captions of {file.name}, {whose}, training on train"
    return data_set(images, captions.by_image, divided, about=about, where=root, problems=problems)


def text_files(config: DataConfig) -> list[Path]:
    """The files that captions and splits come from."""
    kind = KINDS[config.source]
    root = folder_of(config.path)
    names = (*kind.lists.values(), kind.karpathy)
    return [caption_file(root, kind, config), *(file for name in names if (file := _first(root, [name])))]


def caption_file(root: Path, kind: Kind, config: DataConfig) -> Path:
    """The file that captions are read from. Raises UserError where none is there."""
    file = _first(root, [config.captions] if config.captions else kind.captions)
    if file is None:
        missing = f"no {config.captions} (--data.captions)" if config.captions else f"no captions of {kind.name}"
        raise UserError(f"{root} holds {missing}; wanted is {wanted(kind)}")
    return file


def _divided(
    root: Path, kind: Kind, captions: Captions, names: list[str], problems: list[Problem]
) -> tuple[str, splits.Splits]:
    """By the captions file if it is Karpathy's, by the authors' lists, by his file, or by lot: whose, and which."""
    if captions.splits:
        return "Karpathy's splits", splits.told(names, captions.splits, True, problems)
    lists = {split: file for split, name in kind.lists.items() if (file := _first(root, [name]))}
    if lists and len(lists) == len(kind.lists):
        return "official splits", splits.listed(names, lists, problems)
    if file := _first(root, [kind.karpathy]):
        return "Karpathy's splits", splits.told(names, read_captions(file).splits, True, problems)
    each = splits.usual_or_share(USUAL, SHARE, len(names))
    official = f"{kind.karpathy}{' or the lists Flickr_8k.*Images.txt' if kind.lists else ''}"
    whose = f"{each:,} images each for validation and test drawn by lot, NOT the usual splits ({official} has them)"
    return whose, splits.drawn(names, each)


def _images(root: Path, kind: Kind, config: DataConfig, names: list[str]) -> ImageFiles:
    if config.images != ".":
        return open_images(root / config.images)
    for place in _places(root, kind):
        images = open_images(place)
        if any(name in images for name in names[:100]):
            return images
    raise UserError(f"{root} holds none of the first 100 images, such as {names[0]}; wanted is {wanted(kind)}")


def _places(root: Path, kind: Kind) -> Iterator[Path]:
    """Where images might lie; unpacked archives often hold a folder of their own name."""
    for folder in (root, *folders(root)):
        for name in kind.images:
            yield from (place for place in (folder / name, folder / f"{name}.tar") if place.exists())
        yield folder


def _first(root: Path, names: Sequence[str]) -> Path | None:
    places = itertools.product(names, (root, *folders(root)))
    return next((folder / name for name, folder in places if (folder / name).is_file()), None)
