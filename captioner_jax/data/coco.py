"""COCO Captions (Chen et al. 2015, "Microsoft COCO Captions") as its files are handed out."""

import dataclasses
from pathlib import Path

from captioner_jax.config import DataConfig
from captioner_jax.data import splits
from captioner_jax.data.caption_files import RESTVAL, Captions, read_captions
from captioner_jax.data.file_source import data_set, folder_of, found
from captioner_jax.data.image_files import Folder, ImageFiles, Tar
from captioner_jax.data.source import DataSet
from captioner_jax.errors import UserError

KARPATHY = "dataset_coco.json"
# Images that papers hold out for validation, and again for test, where they do not use the official test server.
USUAL = 5_000
YEARS = ("2014", "2017")


@dataclasses.dataclass(frozen=True)
class CocoImages:
    """The images of train and val, each a folder or tar, by the names of 2014 or of 2017.

    The same photograph is COCO_val2014_000000391895.jpg in the one and 000000391895.jpg in the other, where it may
    lie in the other part.
    """

    train: ImageFiles
    val: ImageFiles

    def __contains__(self, name: str) -> bool:
        return self._place(name) is not None

    def read(self, name: str) -> bytes:
        """Raises OSError where the file cannot be read."""
        place = self._place(name)
        if place is None:
            raise FileNotFoundError(name)
        part, known_as = place
        return part.read(known_as)

    def _place(self, name: str) -> tuple[ImageFiles, str] | None:
        """Where an image lies, and its name there."""
        file = name.rpartition("/")[2]
        parts = (self.val, self.train) if "val" in name else (self.train, self.val)
        names = (file, file.rpartition("_")[2])
        return next(((part, known_as) for known_as in names for part in parts if known_as in part), None)


def load(config: DataConfig) -> DataSet:
    """The COCO in `config.path`, by Karpathy's splits if his file is there. Raises UserError where it is not."""
    root = folder_of(config.path)
    year, images = _images(root)
    file = _first(root, config.captions or KARPATHY)
    if file is not None:
        return _by_karpathy(root, images, file, config)
    if config.captions is not None:
        raise UserError(f"{root / config.captions}: no such file (--data.captions)")
    return _official(root, images, year, config)


def _by_karpathy(root: Path, images: CocoImages, file: Path, config: DataConfig) -> DataSet:
    captions = read_captions(file)
    if not captions.splits:
        raise UserError(f"{file} tells no splits; Karpathy's {KARPATHY} does")
    problems = list(captions.problems)
    names = found(captions.by_image, images, root, problems)
    divided = splits.told(names, captions.splits, config.restval, problems)
    train = "train + restval" if config.restval else "train alone, without restval"
    if RESTVAL not in captions.splits.values():
        train = "train, which is all there is: the file has no restval"
    about = f"COCO Captions, Karpathy's splits, training on {train}"
    return data_set(images, captions.by_image, divided, about=about, where=root, problems=problems)


def _official(root: Path, images: CocoImages, year: str, config: DataConfig) -> DataSet:
    """Validation and test are drawn from val, for the official test images have no public captions."""
    train, val = (read_captions(_annotations(root, f"{part}{year}")) for part in ("train", "val"))
    problems = [*train.problems, *val.problems]
    names = {part: found(told.by_image, images, root, problems) for part, told in (("train", train), ("val", val))}
    each = splits.usual_or_share(USUAL, config.held_out, len(names["val"]))
    held_out = splits.drawn(names["val"], each)
    about = (
        f"COCO Captions {year}, NOT Karpathy's splits ({KARPATHY} is not there): {each:,} images each for validation "
        f"and test drawn from val{year}, training on the official train"
    )
    captions = Captions({**val.by_image, **train.by_image}, {}, [])
    divided = held_out | {"train": names["train"]}
    return data_set(images, captions.by_image, divided, about=about, where=root, problems=problems)


def _images(root: Path) -> tuple[str, CocoImages]:
    for year in YEARS:
        parts = [_part(root, f"{part}{year}") for part in ("train", "val")]
        if all(parts):
            return year, CocoImages(*(part for part in parts if part is not None))
    raise UserError(f"{root} holds no images of COCO: wanted folders or tars train2014 and val2014 (or 2017) in it")


def _part(root: Path, name: str) -> ImageFiles | None:
    for place in (root / name, root / "images" / name):
        if place.is_dir():
            return Folder(place)
        if (tar := place.with_name(f"{name}.tar")).is_file():
            return Tar(tar)
    return None


def _annotations(root: Path, part: str) -> Path:
    file = _first(root, f"captions_{part}.json")
    if file is None:
        raise UserError(f"{root} holds neither Karpathy's {KARPATHY} nor the official annotations/captions_{part}.json")
    return file


def _first(root: Path, name: str) -> Path | None:
    folders = (root, root / "annotations", root / "karpathy", root / "annotations" / "karpathy")
    return next((folder / name for folder in folders if (folder / name).is_file()), None)
