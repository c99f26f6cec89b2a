"""Your own pictures: images in a folder or tar; a captions file, or text files beside the images; and splits from files
or by a seeded share."""

from pathlib import Path

from captioner_jax.config import DataConfig
from captioner_jax.data import sidecars, splits
from captioner_jax.data.caption_files import NEEDED, SPLITS, Captions, read_captions, split_name
from captioner_jax.data.file_source import data_set, folder_of, found
from captioner_jax.data.image_files import Folder, Tar, open_images
from captioner_jax.data.source import DataSet, Problem
from captioner_jax.errors import UserError

# Looked for where no captions file is named.
USUAL_FILES = (
    *("captions.csv", "captions.tsv", "captions.jsonl", "captions.json", "captions.txt", "results.csv"),
    *("Flickr8k.token.txt", "results_20130124.token"),
)
# Of such a name is much else, too.
OF_HUGGING_FACE = ("metadata.csv", "metadata.jsonl")


def load(config: DataConfig) -> DataSet:
    """The data set that lies in `config.path`. Raises UserError where it is not to be used."""
    root = folder_of(config.path)
    images = open_images(root / config.images)
    where, captions = _captions(root, images, config.captions)
    problems = list(captions.problems)
    names = found(captions.by_image, images, root / config.images, problems)
    how, divided = _divided(names, captions, config, problems)
    about = f"images in {root / config.images}, captions {where}, {how}; training on train"
    return data_set(images, captions.by_image, divided, about=about, where=root, problems=problems)


def without_captions(config: DataConfig) -> list[str]:
    """Images that are there and that nothing is said of. Raises as `load` does."""
    root = folder_of(config.path)
    images = open_images(root / config.images)
    return [*images.others(_captions(root, images, config.captions)[1].by_image)]


def _captions(root: Path, images: Folder | Tar, name: str | None) -> tuple[str, Captions]:
    """Where they are, in words, and which."""
    usual = [root / name for name in USUAL_FILES if (root / name).is_file()]
    usual = usual or [root / name for name in OF_HUGGING_FACE if (root / name).is_file()]
    if name is None and not usual and isinstance(images, Folder):
        if sidecars.are_there(images):
            return "in text files beside them", sidecars.read_sidecars(images)
        if parts := _by_split(root):
            return f"in the {parts[0].name} of each split", _joined(root, parts)
    if name is None and len(usual) != 1:
        none = "no captions file of a usual name, and no text files beside images"
        what = "several captions files" if usual else none
        known = ", ".join((*USUAL_FILES, *OF_HUGGING_FACE))
        raise UserError(f"{root} has {what}: say which with --data.captions (check: --captions; known: {known})")
    file = usual[0] if name is None else root / name
    return f"in {file.name}", read_captions(file)


def _by_split(root: Path) -> list[Path]:
    """A file of captions in each folder that is called like a split, as the `imagefolder` of Hugging Face has them."""
    folders = sorted(folder for folder in root.iterdir() if folder.is_dir() and split_name(folder.name) in SPLITS)
    files = {folder: [folder / name for name in OF_HUGGING_FACE if (folder / name).is_file()] for folder in folders}
    for folder, some in files.items():
        if len(some) > 1:
            raise UserError(f"{folder} has several captions files: keep one of {', '.join(OF_HUGGING_FACE)}")
    found = [file for some in files.values() for file in some]
    missing = set(NEEDED) - {split_name(file.parent.name) for file in found}
    if found and missing:
        raise UserError(f"{root} has no folder {' or '.join(sorted(missing))} with captions: move some images there")
    return found


def _joined(root: Path, parts: list[Path]) -> Captions:
    """Names are relative to the folder that a file stands in, whose name is that of the split."""
    whole = Captions({}, {}, [])
    for file in parts:
        split, part = str(split_name(file.parent.name)), read_captions(file)
        for image, captions in part.by_image.items():
            name = f"{file.parent.relative_to(root).as_posix()}/{image}"
            whole.by_image[name], whole.splits[name] = captions, split
        below = (Problem(f"{file.parent.name}/{one.where}", one.kind, one.particulars) for one in part.problems)
        whole.problems.extend(below)
    return whole


def _divided(
    names: list[str], captions: Captions, config: DataConfig, problems: list[Problem]
) -> tuple[str, splits.Splits]:
    """By the named files; or else by the captions file itself; or else a share is drawn: in words, and the splits."""
    files = {split: getattr(config.splits, split) for split in SPLITS}
    if any(files.values()):
        return "splits in files", splits.listed(names, _lists(config.path or ".", files), problems)
    if captions.splits:
        return "which tells the splits", splits.told(names, captions.splits, config.restval, problems)
    each = splits.share(config.held_out, len(names), problems)
    return f"{each:,} images drawn for validation and for test", splits.drawn(names, each)


def _lists(root: str, files: dict[str, str | None]) -> dict[str, Path]:
    for split in NEEDED:
        if files[split] is None:
            raise UserError(f"data.splits.{split} is missing: name a file each for {' and '.join(NEEDED)}")
    return {split: Path(root) / file for split, file in files.items() if file is not None}
