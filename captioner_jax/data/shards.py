"""Tar shards in the WebDataset layout, read in place: members of one stem are one example."""

import json
import os
import re
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import tqdm

from captioner_jax.config import DataConfig
from captioner_jax.data import splits
from captioner_jax.data.caption_files import NEEDED, is_text, split_name
from captioner_jax.data.file_source import FileSource, data_set, folder_of
from captioner_jax.data.image_files import ENDINGS, DamageError, Member, members, read_member
from captioner_jax.data.remembered import remembered
from captioner_jax.data.source import DataSet, Problem
from captioner_jax.errors import UserError

_SPLIT = re.compile(r"(train|validation|valid|val|dev|test)(?:ing)?(?![a-z])", re.IGNORECASE)


class Place(NamedTuple):
    """Where an image's bytes lie."""

    shard: str
    offset: int
    size: int


class ShardImages:
    """The images of all shards below a folder, by shard and stem."""

    def __init__(self, root: Path, places: dict[str, Place]):
        self.root = root
        self.places = places

    def __contains__(self, name: str) -> bool:
        return name in self.places

    def read(self, name: str) -> bytes:
        """Raises OSError where the shard cannot be read."""
        shard, offset, size = self.places[name]
        return read_member(self.root / shard, offset, size)


class ShardSource(FileSource):
    """Images in shards."""

    images: ShardImages

    def shards(self) -> list[str]:
        return [self.images.places[name].shard for name in self.names]


class Listing(NamedTuple):
    """What the shards hold, by example."""

    places: dict[str, Place]
    captions: dict[str, list[str]]
    problems: list[Problem]


def load(config: DataConfig) -> DataSet:
    """The shards below `config.path`. Raises UserError where there are none, or nothing in them is to be used."""
    root = folder_of(config.path)
    shards = shard_files(root)
    if not shards:
        raise UserError(f"{root} holds no shards: wanted are .tar files in the WebDataset layout")
    listing = _listed_before(root, shards)
    if not listing.captions:
        nothing = f"{root}: no image with a caption in {len(shards):,} shards"
        raise UserError("\n".join([nothing, *listing.problems[:5]]))
    how, divided = _divided(root, listing, config)
    about = f"{len(shards):,} shards in {root}, {how}, training on train"
    images = ShardImages(root, listing.places)
    return data_set(
        images, listing.captions, divided, about=about, where=root, problems=listing.problems, kind=ShardSource
    )


def shard_files(root: Path) -> list[Path]:
    """The .tar files below a folder, by name.

    Links to folders are followed, but into each folder once: where it lies itself, if that is below, or else by the
    first of its links, whatever the order in which a file system tells of them.
    """
    found: list[Path] = []
    seen: set[str] = set()
    to_follow = [root]
    for link in to_follow:
        for folder, below, files in os.walk(link):
            if (place := os.path.realpath(folder)) in seen:
                below.clear()
                continue
            seen.add(place)
            below.sort()
            to_follow += [path for name in below if (path := Path(folder, name)).is_symlink()]
            found += [Path(folder, name) for name in files if name.lower().endswith(".tar")]
    return sorted(path for path in found if path.is_file())


def _listed_before(root: Path, shards: list[Path]) -> Listing:
    """What the shards hold; as it was listed in an earlier run if they have not changed since."""
    stats = ((shard, shard.stat()) for shard in shards)
    made_from = [(str(shard.resolve()), stat.st_size, stat.st_mtime_ns) for shard, stat in stats]
    places, captions, problems = remembered(["shards 2", str(root), made_from], lambda: _listed(root, shards))
    return Listing(
        {name: Place(*place) for name, place in places.items()}, captions, [Problem(*problem) for problem in problems]
    )


def _listed(root: Path, shards: list[Path]) -> list[Any]:
    """A `Listing` as JSON holds it."""
    listing = Listing({}, {}, [])
    for shard in tqdm.tqdm(shards, desc="listing the shards", unit="shard", delay=2, disable=None):
        _list(shard, shard.relative_to(root).as_posix(), listing)
    problems = [(problem.where, problem.kind, problem.particulars) for problem in listing.problems]
    return [listing.places, listing.captions, problems]


def _list(shard: Path, name: str, listing: Listing) -> None:
    """Adds the examples of one shard, each named by shard and stem. Captions are read, images stay where they are."""
    stems: dict[str, dict[str, Member]] = {}
    try:
        for member in members(shard):
            if not is_text(member.name):
                problem = "a member whose name is no UTF-8 text"
                listing.problems.append(Problem(name, problem, ascii(member.name)))
                continue
            stem, kind = _stem(member.name)
            if kind is not None and stems.setdefault(stem, {}).setdefault(kind, member) is not member:
                listing.problems.append(Problem(name, "a member given before; the second is left out", member.name))
    except (DamageError, OSError) as error:
        listing.problems.append(Problem(name, "the shard is damaged; what stands before that is used", str(error)))
    for stem, parts in stems.items():
        example = f"{name}/{stem}"
        image = next((parts[kind] for kind in ENDINGS if kind in parts), None)
        try:
            captions = _captions(shard, parts)
        except (ValueError, OSError, RecursionError) as error:
            listing.problems.append(Problem(example, "its captions cannot be read", str(error)))
            continue
        if image is None:
            listing.problems.append(Problem(example, "no image"))
        elif not captions:
            listing.problems.append(Problem(example, "no captions"))
        else:
            listing.places[example] = Place(name, image.offset, image.size)
            listing.captions[example] = captions


def _stem(member: str) -> tuple[str, str | None]:
    """A member's path up to the first dot of its last part, and what it is; None for what has no use here."""
    path = PurePosixPath(member)
    stem, _, kind = path.name.partition(".")
    known = stem and kind.lower() in (*ENDINGS, "json", "txt")
    return str(path.with_name(stem or "-")), kind.lower() if known else None


def _captions(shard: Path, parts: dict[str, Member]) -> list[str]:
    """Those in the .json, or else in the .txt, a line each. Raises ValueError where they are no text."""
    texts: list[str] = []
    if "json" in parts:
        texts = _in_json(json.loads(_read(shard, parts["json"])))
    if not texts and "txt" in parts:
        texts = _read(shard, parts["txt"]).split("\n")
    if not all(map(is_text, texts)):
        raise ValueError("not UTF-8 text, or a NUL byte in it")
    return [" ".join(text.split()) for text in texts if text.strip()]


def _in_json(content: Any) -> list[str]:
    told = content.get("captions", content.get("caption")) if isinstance(content, dict) else None
    texts = told if isinstance(told, list) else [told] if told else []
    if not all(isinstance(text, str) for text in texts):
        raise ValueError('"caption" is no text, or "captions" no list of texts')
    return texts


def _read(shard: Path, member: Member) -> str:
    return read_member(shard, member.offset, member.size).decode("utf-8-sig")


def _divided(root: Path, listing: Listing, config: DataConfig) -> tuple[str, splits.Splits]:
    """By the names of subfolders and shards; a share is drawn where these tell of no split."""
    names = list(listing.places)
    of_shard = {shard: _split_of(shard) for shard in {place.shard for place in listing.places.values()}}
    found = ((name, of_shard[listing.places[name].shard]) for name in names)
    split_of = {name: split for name, split in found if split is not None}
    if not split_of:
        each = splits.share(config.held_out, len(names), listing.problems)
        return f"{each:,} images drawn for validation and for test", splits.drawn(names, each)
    missing = set(NEEDED) - set(split_of.values())
    if missing:
        raise UserError(
            f"{root} has no shards for {' and '.join(sorted(missing))}: name a folder or shards so; or, to have the "
            "splits drawn, call none train, validation or test"
        )
    return "splits by their names", splits.told(names, split_of, True, listing.problems)


def _split_of(shard: str) -> str | None:
    """The split that a shard's folder, or else its own name, begins with."""
    for part in PurePosixPath(shard).parts:
        if match := _SPLIT.match(part):
            return split_name(match[1])
    return None
