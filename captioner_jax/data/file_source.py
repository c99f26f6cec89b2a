"""Images in files and their captions as a data set."""

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from captioner_jax.data.image_files import Folder, ImageFiles, Tar
from captioner_jax.data.source import DataSet, Example, Problem, Source
from captioner_jax.data.splits import Splits
from captioner_jax.errors import UserError


class FileSource(Source):
    """The named images and their captions."""

    def __init__(self, images: ImageFiles, names: Sequence[str], captions: dict[str, list[str]]):
        self.images = images
        self.names = list(names)
        self.told = [tuple(captions[name]) for name in names]

    def __len__(self) -> int:
        return len(self.names)

    def read(self, i: int) -> Example:
        name, told = self.names[i], self.told[i]
        try:
            return Example(name, self.images.read(name), told)
        except PermissionError:
            return Example(name, b"", told)  # shows as a damaged image, by name
        except OSError as error:
            return Example(name, b"", told, lost=error.strerror or str(error))

    def captions(self) -> Iterator[tuple[str, ...]]:
        return iter(self.told)


def folder_of(path: str | None) -> Path:
    """The folder that data.path names. Raises UserError where there is none."""
    if path is None:
        raise UserError("where are the images? Name their folder: --data.path FOLDER")
    if not Path(path).is_dir():
        raise UserError(f"{path}: no such folder (--data.path)")
    return Path(path)


def found(captions: dict[str, list[str]], images: ImageFiles, where: Path, problems: list[Problem]) -> list[str]:
    """The captioned images that are there; the others are problems. Raises UserError where none is."""
    names: list[str] = []
    spelt: dict[Path, str] = {}
    for name in captions:
        file = images.file(name) if isinstance(images, Folder) else None
        if file is None and name not in images:
            problems.append(Problem(name, "no such image"))
        elif file is not None and spelt.setdefault(file, name) != name:
            twice = "an image that was named otherwise before; captions of this name are left out"
            problems.append(Problem(name, twice, spelt[file]))
        else:
            names.append(name)
    if not names:
        such = next(iter(captions))
        like = _like(such, images)
        hint = (
            f"though {like} is: names are to be spelt alike, with the path from there, ending and capitals"
            if like
            else "--data.images (check: --images) names their folder or .tar, relative to the path"
        )
        raise UserError(f"none of the {len(captions):,} captioned images, such as {such}, is in {where}: {hint}")
    return names


def _like(name: str, images: ImageFiles) -> str | None:
    """An image that is there, of the same name but for its folder, its ending and capitals."""
    if not isinstance(images, Folder | Tar):
        return None
    stem = PurePosixPath(name).stem.casefold()
    return next((other for other in images.others(()) if PurePosixPath(other).stem.casefold() == stem), None)


def data_set(
    images: ImageFiles,
    captions: dict[str, list[str]],
    splits: Splits,
    *,
    about: str,
    where: Path,
    problems: list[Problem],
    kind: type[FileSource] = FileSource,
) -> DataSet:
    """The splits of images in files. Raises UserError where there is nothing to train on, or to validate by."""
    sources = {split: kind(images, splits[split], captions) for split in splits}
    for split in ("train", "validation"):
        if not sources[split]:
            empty = f"{where}: the {split} split is empty, of {sum(map(len, splits.values())):,} images in all"
            raise UserError("\n".join([empty, *problems[:5]]))
    return DataSet.of(sources, f"{about} ({len(sources['train']):,} images)", problems)
