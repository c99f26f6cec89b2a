"""Caption files as people have them: CSV, JSON Lines, COCO's JSON, Flickr8k's token file."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from captioner_jax.errors import UserError

SPLITS = ("train", "validation", "test")
_OTHER_NAMES = {"val": "validation", "dev": "validation", "valid": "validation"}


class Line(NamedTuple):
    """One caption, where it stands, and the split that the file puts its image in, if it does."""

    where: str
    image: str
    caption: str
    split: str | None = None


class Captions(NamedTuple):
    """Captions by image, in the file's order; the splits of those images that have one; and what was wrong."""

    by_image: dict[str, list[str]]
    splits: dict[str, str]
    problems: list[str]


class _Problem(NamedTuple):
    """A line that cannot be used, in words."""

    words: str


def read_captions(path: Path) -> Captions:
    """The captions in a file of a kind told by its ending.

    .csv with a header that has `image` and `caption`; .jsonl with an object of these two a line; both may also have
    `split`: train, validation (val, dev) or test. .json of COCO captions. .txt with `image#number<TAB>caption` a line.
    Lines that cannot be used are named in `problems`. Raises UserError where the file cannot be read at all, or holds
    no caption.
    """
    readers: dict[str, Callable[[str, str], Iterable[Line | _Problem]]] = {
        ".csv": _csv,
        ".jsonl": _json_lines,
        ".json": _coco,
        ".txt": _tokens,
    }
    if path.suffix.lower() not in readers:
        raise UserError(
            f"{path}: captions come in {', '.join(readers)}, not in {path.suffix or 'a file without ending'}"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    captions = _gather(readers[path.suffix.lower()](text, path.name))
    if not captions.by_image:
        raise UserError("\n".join([f"{path} holds no captions", *captions.problems[:5]]))
    return captions


def _gather(lines: Iterable[Line | _Problem]) -> Captions:
    captions = Captions({}, {}, [])
    for line in lines:
        if isinstance(line, _Problem):
            captions.problems.append(line.words)
        elif not line.image.strip():
            captions.problems.append(f"{line.where}: no image is named")
        elif not line.caption.strip():
            captions.problems.append(f"{line.where}: the caption of {line.image} is empty")
        elif line.split and line.split not in SPLITS:
            captions.problems.append(f"{line.where}: unknown split {line.split!r}; known are {', '.join(SPLITS)}")
        else:
            captions.by_image.setdefault(line.image.strip(), []).append(" ".join(line.caption.split()))
            if line.split:
                captions.splits[line.image.strip()] = line.split
    return captions


def _split_name(name: Any) -> str | None:
    return _OTHER_NAMES.get(str(name).strip().lower(), str(name).strip().lower()) if name else None


def _csv(text: str, file: str) -> Iterator[Line | _Problem]:
    rows = csv.DictReader(io.StringIO(text, newline=""))
    missing = {"image", "caption"} - set(rows.fieldnames or ())
    if missing:
        raise UserError(f"{file}: the first line must name the columns; missing: {', '.join(sorted(missing))}")
    for row in rows:
        where = f"{file} line {rows.line_num}"
        if row["image"] is None or row["caption"] is None:
            yield _Problem(f"{where}: fewer columns than the header")
        elif None in row:
            yield _Problem(f"{where}: more columns than the header; a caption with commas needs quotes around it")
        else:
            yield Line(where, row["image"], row["caption"], _split_name(row.get("split")))


def _json_lines(text: str, file: str) -> Iterator[Line | _Problem]:
    for number, line in enumerate(text.split("\n"), 1):
        where = f"{file} line {number}"
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            yield _Problem(f"{where}: not JSON: {error.msg}")
            continue
        if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("image", "caption")):
            yield _Problem(f'{where}: wanted an object with the texts "image" and "caption"')
        else:
            yield Line(where, row["image"], row["caption"], _split_name(row.get("split")))


def _coco(text: str, file: str) -> Iterator[Line | _Problem]:
    try:
        content = json.loads(text)
        images = {image["id"]: image["file_name"] for image in content["images"]}
        annotations = content["annotations"]
    except json.JSONDecodeError as error:
        raise UserError(f"{file} is not JSON: line {error.lineno}: {error.msg}") from error
    except (KeyError, TypeError) as error:
        raise UserError(f'{file} is not COCO captions: wanted "images" with id, file_name and "annotations"') from error
    for number, annotation in enumerate(annotations):
        where = f"{file} annotation {number}"
        if not isinstance(annotation, dict) or not isinstance(annotation.get("caption"), str):
            yield _Problem(f'{where}: wanted an object with "image_id" and the text "caption"')
        elif annotation.get("image_id") not in images:
            yield _Problem(f"{where}: no image has the id {annotation.get('image_id')}")
        else:
            yield Line(where, images[annotation["image_id"]], annotation["caption"])


def _tokens(text: str, file: str) -> Iterator[Line | _Problem]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        image, tab, caption = line.partition("\t")
        if not tab:
            yield _Problem(f"{file} line {number}: no tab between image and caption")
        else:
            yield Line(f"{file} line {number}", image.rpartition("#")[0] or image, caption)
