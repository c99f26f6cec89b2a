"""Which images are for training, which for validation, which for test."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from captioner_jax.data.caption_files import RESTVAL, one_name
from captioner_jax.data.source import Problem
from captioner_jax.errors import UserError, naming

# Names of images by split.
Splits = dict[str, list[str]]


def listed(names: Sequence[str], lists: dict[str, Path], problems: list[Problem]) -> Splits:
    """By files that list the images of each split, a name a line. Raises UserError where one cannot be read."""
    here = set(names)
    splits: Splits = {}
    taken: dict[str, str] = {}
    for split, file in lists.items():
        splits[split] = []
        for name in _lines(file):
            if name not in here:
                problems.append(Problem(file.name, "a listed image that has no file or no captions", name))
            elif taken.setdefault(name, split) != split:
                problems.append(Problem(file.name, "an image in two splits; the first one counts", name))
            else:
                splits[split].append(name)
    return splits


def told(names: Sequence[str], split_of: dict[str, str], restval: bool, problems: list[Problem]) -> Splits:
    """By the captions file itself; `restval` says whether Karpathy's split of that name is for training."""
    train = ("train", RESTVAL) if restval else ("train",)
    problems += [Problem(name, "in no split") for name in names if name not in split_of]
    return {
        "train": [name for name in names if split_of.get(name) in train],
        "validation": [name for name in names if split_of.get(name) == "validation"],
        "test": [name for name in names if split_of.get(name) == "test"],
    }


def drawn(names: Iterable[str], each: int) -> Splits:
    """By the hashes of their names, `each` for validation and for test: the same in every run, whatever its seed.

    Images that are added move the others up by a little, and validation stands between test and train: until there
    are nearly twice as many, nothing that was trained on is tested on.
    """
    ranked = sorted(names, key=lambda name: hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest())
    return {"test": ranked[:each], "validation": ranked[each : 2 * each], "train": ranked[2 * each :]}


def usual_or_share(usual: int, share: float, images: int) -> int:
    """As many images for a drawn split as is usual, or a share where there are too few for that."""
    return usual if images >= 4 * usual else _share_of(share, images)


def share(of_all: float, images: int, problems: Sequence[Problem]) -> int:
    """As many images for a drawn split: one at least. Raises UserError, which tells of the problems, for fewer than
    three images."""
    each = _share_of(of_all, images)
    if each < 1:
        few = f"{images} images are too few to draw some for validation and for a test from"
        raise UserError("\n".join([f"{few}: three at least are wanted", *problems[:5]]))
    return each


def _share_of(share: float, images: int) -> int:
    """One at least, where so many leave some to train on."""
    return min(max(1, round(share * images)), (images - 1) // 2)


def _lines(file: Path) -> Iterable[str]:
    try:
        with naming(file):
            lines = file.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    return dict.fromkeys(one_name(line) for line in lines if line.strip())
