"""Your own pictures: images in a folder or tar, a captions file, and splits from files or by a seeded share."""

from pathlib import Path

from captioner_jax.config import DataConfig
from captioner_jax.data import splits
from captioner_jax.data.caption_files import SPLITS, Captions, read_captions
from captioner_jax.data.file_source import data_set, folder_of, found
from captioner_jax.data.image_files import open_images
from captioner_jax.data.source import DataSet, Problem
from captioner_jax.errors import UserError

# Looked for where no captions file is named.
USUAL_FILES = (
    *("captions.csv", "captions.jsonl", "captions.json", "captions.txt", "results.csv"),
    *("Flickr8k.token.txt", "results_20130124.token"),
)


def load(config: DataConfig) -> DataSet:
    """The data set that lies in `config.path`. Raises UserError where it is not to be used."""
    root = folder_of(config.path)
    file = _captions_file(root, config.captions)
    captions = read_captions(file)
    images = open_images(root / config.images)
    problems = list(captions.problems)
    names = found(captions.by_image, images, root / config.images, problems)
    how, divided = _divided(names, captions, config, problems)
    about = f"images in {root / config.images}, captions in {file.name}, {how}; training on train"
    return data_set(images, captions.by_image, divided, about=about, where=root, problems=problems)


def _captions_file(root: Path, name: str | None) -> Path:
    if name is not None:
        return root / name
    usual = [root / name for name in USUAL_FILES if (root / name).is_file()]
    if len(usual) != 1:
        what = "several captions files" if usual else "no captions file of a usual name"
        raise UserError(
            f"{root} has {what}: say which with --data.captions (check: --captions; known: {', '.join(USUAL_FILES)})"
        )
    return usual[0]


def _divided(
    names: list[str], captions: Captions, config: DataConfig, problems: list[Problem]
) -> tuple[str, splits.Splits]:
    """By the named files; or else by the captions file itself; or else a share is drawn: in words, and the splits."""
    files = {split: getattr(config.splits, split) for split in SPLITS}
    if any(files.values()):
        return "splits in files", splits.listed(names, _lists(config.path or ".", files), problems)
    if captions.splits:
        return "which tells the splits", splits.told(names, captions.splits, config.restval, problems)
    each = round(config.held_out * len(names))
    return f"{each:,} images drawn for validation and for test", splits.drawn(names, each)


def _lists(root: str, files: dict[str, str | None]) -> dict[str, Path]:
    lists = {split: Path(root) / file for split, file in files.items() if file is not None}
    for split in SPLITS:
        if split not in lists:
            raise UserError(f"data.splits.{split} is missing: name a file for each of {', '.join(SPLITS)}")
    return lists
