"""Reads a whole data set before a long run does: every caption, every image, and what is wrong with them."""

import dataclasses
import hashlib
import itertools
import multiprocessing
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Literal, NamedTuple

import tqdm
from PIL import ExifTags

from captioner_jax.config import DataConfig
from captioner_jax.data import folder
from captioner_jax.data.flickr_files import KINDS
from captioner_jax.data.image_files import DamageError, folders, members
from captioner_jax.data.images import ImageError, begun, open_image
from captioner_jax.data.load import read_files
from captioner_jax.data.shards import shard_files
from captioner_jax.data.source import DataSet, Example, Problem, Source
from captioner_jax.errors import UserError

# Images that wait in memory for the worker processes.
WINDOW = 1024
# The side in pixels below which an image is called tiny, and the one that JPEGs are decoded for.
TINY, SIDE = 16, 64
EXAMPLES = 3
Files = Literal["folder", "coco", "flickr8k", "flickr30k", "shards"]
_FLICKR: tuple[Files, ...] = ("flickr8k", "flickr30k")
_WORD = re.compile(r"\w+(?:['’-]\w+)*")


class Seen(NamedTuple):
    """An image that was read: what it is, what is wrong with it if anything is, and the hash of its bytes."""

    name: str
    kinds: tuple[str, ...]
    problem: Problem | None
    hash: bytes


class Row(NamedTuple):
    """A split: its size, and the words of its captions."""

    split: str
    images: int
    captions: int
    least: int
    mean: float
    most: int


@dataclasses.dataclass(frozen=True)
class Findings:
    """All that was found: what cannot be used; and what can, but is worth knowing."""

    about: str
    rows: list[Row]
    kinds: Counter[str]
    unusable: list[Problem]
    remarkable: list[Problem]


def check(config: DataConfig, workers: int) -> Findings:
    """Reads everything. Raises UserError where the data set cannot be read at all."""
    data = read_files(config)
    kinds: Counter[str] = Counter()
    unusable = [
        problem if isinstance(problem, Problem) else Problem(problem, "other mistakes") for problem in data.problems
    ]
    split_of: dict[bytes, list[tuple[str, str]]] = defaultdict(list)
    for split, seen in _every_image(data, workers):
        kinds.update(seen.kinds)
        if seen.problem is not None:
            unusable.append(seen.problem)
        else:
            split_of[seen.hash].append((split, seen.name))
    return Findings(
        about=data.about,
        rows=[_row(split, source) for split, source in data.splits.items()],
        kinds=kinds,
        unusable=unusable,
        remarkable=[*_same_images(split_of.values()), *_same_captions(data), *_without_captions(config)],
    )


def guess(path: Path) -> Files:
    """The source that a folder's content speaks of. Raises UserError where there is no such folder."""
    if not path.is_dir():
        raise UserError(f"{path}: no such folder")
    names = {file.name for folder in (path, *folders(path)) for file in folder.iterdir()}
    if {"dataset_coco.json", "captions_train2014.json", "captions_train2017.json"} & names:
        return "coco"
    for source in _FLICKR:
        if KINDS[source].is_told_by(names):
            return source
    return "shards" if any(map(_is_shard, shard_files(path)[:1])) else "folder"


def _is_shard(tar: Path) -> bool:
    """Does a tar hold captions beside its images?"""
    try:
        return any(Path(member.name).suffix in (".txt", ".json") for member in itertools.islice(members(tar), 10))
    except (DamageError, OSError):
        return False


def look(example: Example) -> Seen:
    """One image, decoded."""
    hash = hashlib.blake2b(example.image, digest_size=16).digest()
    try:
        open_image(example.image, SIDE)
    except ImageError as error:
        kind, _, particulars = str(error).partition(": ")
        return Seen(example.name, (), Problem(example.name, kind, particulars), hash)
    return Seen(example.name, tuple(_kinds(example.image)), None, hash)


def _kinds(data: bytes) -> Iterator[str]:
    """What an image is, from its header: format and mode, and whatever else decoding it has to mind."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = begun(data)
        yield f"{image.format} {image.mode}"
        if getattr(image, "is_animated", False):
            yield "animated; the first frame is taken"
        if image.has_transparency_data:
            yield "transparent; laid over white"
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
            yield "turned upright by EXIF"
        if min(image.size) < TINY:
            yield f"a side below {TINY} pixels"


def _every_image(data: DataSet, workers: int) -> Iterator[tuple[str, Seen]]:
    """All images of all splits, in order; a bar tells progress and time left where a person is watching."""
    total = sum(map(len, data.splits.values()))
    with tqdm.tqdm(total=total, desc="decoding", unit="image", disable=None) as progress:
        for split, source in data.splits.items():
            for seen in _looked_at(source, workers):
                progress.update()
                yield split, seen


def _looked_at(source: Source, workers: int) -> Iterator[Seen]:
    if workers == 0:
        yield from map(look, source)
        return
    spawn = multiprocessing.get_context("spawn")  # JAX has threads, which a fork does not survive
    with ProcessPoolExecutor(workers, spawn) as pool:
        try:
            for first in range(0, len(source), WINDOW):
                some = (source[i] for i in range(first, min(first + WINDOW, len(source))))
                yield from pool.map(look, some, chunksize=WINDOW // 32)
        except BrokenProcessPool as error:
            raise UserError("a worker process ended, most likely for want of memory: try fewer --workers") from error
        finally:
            pool.shutdown(cancel_futures=True)


def _row(split: str, source: Source) -> Row:
    lengths = [len(_WORD.findall(caption)) for captions in source.captions() for caption in captions]
    if not lengths:
        return Row(split, len(source), 0, 0, 0.0, 0)
    return Row(split, len(source), len(lengths), min(lengths), sum(lengths) / len(lengths), max(lengths))


def _same_images(groups: Iterable[list[tuple[str, str]]]) -> Iterator[Problem]:
    """Files of the same bytes: between splits they give the answers of a test away."""
    for group in groups:
        splits = list(dict.fromkeys(split for split, _ in group))
        names = ", ".join(name for _, name in group)
        if len(splits) > 1:
            yield Problem(names, f"LEAK: the same image in {' and '.join(splits)}")
        elif len(group) > 1:
            yield Problem(names, f"the same image more than once in {splits[0]}")


def _same_captions(data: DataSet) -> Iterator[Problem]:
    for source in data.splits.values():
        for i, captions in enumerate(source.captions()):
            for caption, times in Counter(captions).items():
                if times > 1:
                    yield Problem(source[i].name, "a caption that its image has more than once", caption)


def _without_captions(config: DataConfig) -> Iterator[Problem]:
    if config.source == "folder":
        yield from (Problem(name, "an image that nothing is said of") for name in folder.without_captions(config))


def table(findings: Findings) -> str:
    """For people to read: every kind of finding with its number and a few examples."""
    lines = [findings.about, ""]
    lines += [f"{'split':20}{'images':>10}{'captions':>10}   words a caption: least, mean, most"]
    lines += [
        f"{row.split:20}{row.images:10,}{row.captions:10,}{row.least:23}{row.mean:6.1f}{row.most:6}"
        for row in findings.rows
    ]
    lines += ["", "kinds of images that can be used", *_counted(findings.kinds)]
    for title, problems in (("cannot be used", findings.unusable), ("can be used, but note", findings.remarkable)):
        lines += ["", f"{title}: {len(problems) or 'nothing'}"]
        for kind, number in Counter(problem.kind for problem in problems).most_common():
            lines += [f"{number:10,}  {kind}"]
            some = itertools.islice((problem for problem in problems if problem.kind == kind), EXAMPLES)
            lines += [f"{'':12}  {_shortened(problem)}" for problem in some]
    return "\n".join(lines)


def report(findings: Findings) -> str:
    """The table, then every finding."""
    everything = ["cannot be used", *findings.unusable, "", "can be used, but note", *findings.remarkable]
    return "\n".join([table(findings), "", "ALL OF IT", "", *everything, ""])


def _counted(counter: Counter[str]) -> list[str]:
    return [f"{number:10,}  {kind}" for kind, number in counter.most_common()]


def _shortened(problem: Problem) -> str:
    text = problem.where + (f" ({problem.particulars})" if problem.particulars else "")
    return text if len(text) <= 160 else f"{text[:157]}..."
