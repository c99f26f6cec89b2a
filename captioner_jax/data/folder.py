"""Your own pictures: images in a folder or tar, a captions file, and splits from files or by a seeded share."""

import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from captioner_jax.config import DataConfig
from captioner_jax.data.caption_files import SPLITS, Captions, read_captions
from captioner_jax.data.image_files import ImageFiles, open_images
from captioner_jax.data.source import DataSet, Example, Source
from captioner_jax.errors import UserError

# Looked for, in this order, where no captions file is named.
USUAL_FILES = (
    *("captions.csv", "captions.jsonl", "captions.json", "captions.txt"),
    *("Flickr8k.token.txt", "results_20130124.token"),
)


class FolderSource(Source):
    """The named images and their captions."""

    def __init__(self, images: ImageFiles, names: Sequence[str], captions: dict[str, list[str]]):
        self.images = images
        self.names = list(names)
        self.told = [tuple(captions[name]) for name in names]

    def __len__(self) -> int:
        return len(self.names)

    def read(self, i: int) -> Example:
        try:
            image = self.images.read(self.names[i])
        except OSError:
            image = b""  # gone or unreadable since the run began: shows as a damaged image, by name
        return Example(self.names[i], image, self.told[i])

    def captions(self) -> Iterator[tuple[str, ...]]:
        return iter(self.told)


def load(config: DataConfig) -> DataSet:
    """The data set that lies in `config.path`. Raises UserError where it is not to be used."""
    if config.path is None:
        raise UserError("where are the images? Name their folder: --data.path FOLDER")
    root = Path(config.path)
    if not root.is_dir():
        raise UserError(f"{root}: no such folder (--data.path)")
    captions = read_captions(_captions_file(root, config.captions))
    images = open_images(root / config.images)
    names = [name for name in captions.by_image if name in images]
    problems = [*captions.problems, *(f"{name}: no such image" for name in captions.by_image if name not in images)]
    if not names:
        raise UserError(f"none of the {len(captions.by_image)} captioned images is in {root / config.images}")
    splits = _splits(names, captions, config, problems)
    sources = {split: FolderSource(images, splits[split], captions.by_image) for split in SPLITS}
    for split, source in sources.items():
        if not source:
            raise UserError(f"{root}: the {split} split is empty, of {len(names)} images in all")
    return DataSet(
        train=sources["train"],
        validation={"validation": sources["validation"]},
        test={"test": sources["test"]},
        problems=tuple(problems),
    )


def _captions_file(root: Path, name: str | None) -> Path:
    if name is not None:
        return root / name
    found = [root / usual for usual in USUAL_FILES if (root / usual).is_file()]
    if len(found) != 1:
        what = "several captions files" if found else "no captions file of a usual name"
        raise UserError(f"{root} has {what}: say which with --data.captions (looked for {', '.join(USUAL_FILES)})")
    return found[0]


def _splits(names: list[str], captions: Captions, config: DataConfig, problems: list[str]) -> dict[str, list[str]]:
    """From the named files; or else from the captions file's own column; or else by a seeded share."""
    files = {split: getattr(config.splits, split) for split in SPLITS}
    if any(files.values()):
        lists = {split: _listed(Path(config.path or "."), files[split], split) for split in SPLITS}
        here = set(names)
        problems += [f"{files[s]}: {n} has no image or no captions" for s in SPLITS for n in lists[s] if n not in here]
        return {split: [name for name in lists[split] if name in here] for split in SPLITS}
    if captions.splits:
        problems += [f"{name}: in no split" for name in names if name not in captions.splits]
        return {split: [name for name in names if captions.splits.get(name) == split] for split in SPLITS}
    shuffled = sorted(names)
    random.Random(0).shuffle(shuffled)  # the same split in every run, whatever the seed of its training
    share = round(config.held_out * len(names))
    return {"validation": shuffled[:share], "test": shuffled[share : 2 * share], "train": shuffled[2 * share :]}


def _listed(root: Path, file: str | None, split: str) -> Iterable[str]:
    if file is None:
        raise UserError(f"data.splits.{split} is missing: name a file for each of {', '.join(SPLITS)}")
    try:
        lines = (root / file).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{root / file}: {error}") from error
    return dict.fromkeys(line.strip() for line in lines if line.strip())
