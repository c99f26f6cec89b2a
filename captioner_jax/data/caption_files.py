"""Caption files as people have them: CSV, JSON Lines, COCO's and Karpathy's JSON, Flickr's token files."""

import csv
import io
import json
import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from captioner_jax.data.source import Problem
from captioner_jax.errors import UserError, naming

SPLITS = ("train", "validation", "test")
NEEDED = ("train", "validation")
"""Without images for a test there are no scores of what was never seen, but a captioner."""
RESTVAL = "restval"
"""Images of COCO's val2014 that Karpathy lets one train on: kept apart, so that training on them is a choice."""
_OTHER_NAMES = {
    **{"training": "train", "testing": "test"},
    **dict.fromkeys(("val", "dev", "valid"), "validation"),
}
# How columns are called: here, in Kaggle's copies of Flickr8k and Flickr30k, and in Hugging Face's folders of images.
_COLUMNS = {
    **{"image_name": "image", "comment": "caption", "comment_number": "number"},
    **{"file_name": "image", "text": "caption"},
}
# Between columns, besides commas.
_SEPARATORS = "|\t;"


class Line(NamedTuple):
    """One caption, where it stands, the split that the file puts its image in and the caption's id, if it has these."""

    where: str
    image: str
    caption: str
    split: str | None = None
    id: str | None = None

    @property
    def name(self) -> str:
        """The image's, one however its path is spelt."""
        return one_name(self.image)


class Captions(NamedTuple):
    """Captions by image, in the file's order; the splits of those images that have one; and what was wrong."""

    by_image: dict[str, list[str]]
    splits: dict[str, str]
    problems: list[Problem]


def read_captions(path: Path) -> Captions:
    """The captions in a file of a kind told by its ending and its first words.

    .csv or .tsv with a header that has `image` and `caption` (or `file_name` and `text`), between commas, semicolons or
    tabs; .jsonl with an object of these two a line, or of `image` and a list `captions`; both may also have `split`:
    train, validation (val, dev), test or restval. .json of COCO captions or by Karpathy. .txt or .token with
    `image#number<TAB>caption` a line. Kaggle's .txt that is a CSV, and its .csv of columns between pipes. UTF-8, or
    UTF-16 that says so.

    Lines that cannot be used are named in `problems` and left out. Raises UserError where the file cannot be read at
    all, or holds no caption.
    """
    readers = {".csv": _table, ".tsv": _table, ".jsonl": _json_lines, ".json": _json, ".txt": _txt, ".token": _tokens}
    if path.suffix.lower() not in readers:
        raise UserError(
            f"{path}: captions come in {', '.join(readers)}, not in {path.suffix or 'a file without ending'}"
        )
    captions = gather(readers[path.suffix.lower()](text_of(path), path.name))
    if not captions.by_image:
        raise UserError("\n".join([f"{path} holds no captions", *captions.problems[:5]]))
    return captions


def text_of(path: Path) -> str:
    """A file's text. Bytes that are no UTF-8 become lone surrogates, by which `gather` knows their lines.

    A carriage return ends lines where nothing else does. Raises UserError where the file cannot be read.
    """
    with naming(path):
        content = path.read_bytes()
    try:
        is_utf16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))
        text = content.decode("utf-16") if is_utf16 else content.decode("utf-8-sig", "surrogateescape")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not the UTF-16 text that it begins as (byte {error.start})") from error
    return text if "\n" in text else text.replace("\r", "\n")


def gather(lines: Iterable[Line | Problem]) -> Captions:
    """Those of the lines that can be used, by image."""
    captions = Captions({}, {}, [])
    ids: set[str] = set()
    for line in lines:
        if isinstance(line, Problem):
            captions.problems.append(line)
        elif mistake := _mistake(line, ids, captions.splits):
            captions.problems.append(mistake)
        else:
            image = line.name
            captions.by_image.setdefault(image, []).append(" ".join(line.caption.split()))
            if line.id:
                ids.add(line.id)
            if line.split:
                captions.splits[image] = line.split
    return captions


def _mistake(line: Line, ids: set[str], splits: dict[str, str]) -> Problem | None:
    """What keeps a line from being used, given the ids and splits of those before it."""
    if not is_text(line.image + line.caption):
        return Problem(line.where, "not UTF-8 text, or a NUL byte in it; save the file as UTF-8")
    if not line.image.strip():
        return Problem(line.where, "no image is named")
    if not line.caption.strip():
        return Problem(line.where, "the caption is empty", line.image)
    if not any(c.isalnum() for c in line.caption):
        return Problem(line.where, "the caption has no words", line.image)
    if line.split and line.split not in (*SPLITS, RESTVAL):
        return Problem(line.where, f"unknown split; known are {', '.join((*SPLITS, RESTVAL))}", repr(line.split))
    if line.split and splits.get(line.name, line.split) != line.split:
        return Problem(line.where, "an image in two splits; the first one counts", line.image)
    if line.id in ids:
        return Problem(line.where, "an id given before; the line is left out", line.id)
    return None


def one_name(path: str) -> str:
    """Of a file in a list: ./a.jpg and b//c.jpg are a.jpg and b/c.jpg."""
    return posixpath.normpath(path.strip()) if path.strip() else ""


def is_text(text: str) -> bool:
    """Can it be written as UTF-8, and has it no NUL byte, which no captioner should learn?"""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def split_name(name: Any) -> str | None:
    """A split as it is called here, by whatever name people call it; None where there is no name."""
    return _OTHER_NAMES.get(str(name).strip().lower(), str(name).strip().lower()) if name else None


def _columns(line: str) -> dict[str, int]:
    """The places of the columns that a header names."""
    names = [name.strip().strip('"').lower() for name in line.split(_separator(line))]
    return _known_as({name: place for place, name in enumerate(names)})


def _known_as(columns: dict[str, Any]) -> dict[str, Any]:
    """By the names that columns have here; another name counts where a row does not have the name itself."""
    return {known: columns[name] for name, known in _COLUMNS.items() if name in columns} | columns


def _separator(header: str) -> str:
    return next((mark for mark in _SEPARATORS if mark in header), ",")


def _txt(text: str, file: str) -> Iterator[Line | Problem]:
    header = _columns(text.partition("\n")[0])
    return _table(text, file) if {"image", "caption"} <= header.keys() else _tokens(text, file)


def _table(text: str, file: str) -> Iterator[Line | Problem]:
    header = text.partition("\n")[0]
    columns = _columns(header)
    missing = {"image", "caption"} - columns.keys()
    if missing:
        raise UserError(
            f"{file}: the first line must name the columns; missing: {', '.join(sorted(missing))}; "
            f"it is {header.strip()[:80]!r}. (Of several captions each has a line of its own.)"
        )
    mark = _separator(header)
    width = header.count(mark) + 1
    match mark:
        case "|":
            rows = _between_pipes(text, width)
        case "\t":
            rows = _between_tabs(text)
        case _:
            rows = _separated(text, mark)
    next(rows)
    for number, row in rows:
        where = f"{file} line {number}"
        if isinstance(row, str):
            yield Problem(where, "not CSV", row)
        elif len(row) < width:
            yield Problem(where, "fewer columns than the header")
        elif len(row) > width:
            name = "semicolons" if mark == ";" else "commas"
            needs = f"a caption with {name} needs quotes around it, and no space before them"
            quotes = "a caption may have none" if mark == "\t" else needs
            yield Problem(where, f"more columns than the header; {quotes}")
        else:
            found = {name: row[place].strip() for name, place in columns.items()}
            id = f"{found['image']}#{found['number']}" if "number" in found else None
            yield Line(where, found["image"], found["caption"], split_name(found.get("split")), id)


def _separated(text: str, mark: str) -> Iterator[tuple[int, list[str] | str]]:
    """Rows of a file of columns between such marks with the number of their first line; or, of a row that is none, what
    is wrong with it."""
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
    while True:
        first = rows.line_num + 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            swallowed = rows.line_num - first
            more = f", and with it the {swallowed} lines after it" if swallowed else ""
            yield first, f"{error}; is a quotation mark not closed?{more}"
        else:
            if row:
                yield first, row


def _between_pipes(text: str, columns: int) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line.split("|", columns - 1)


def _between_tabs(text: str) -> Iterator[tuple[int, list[str]]]:
    """Quotation marks are part of a caption, but for those around the whole of it, as spreadsheets set them."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, [_unquoted(column.strip()) for column in line.split("\t")]


def _unquoted(column: str) -> str:
    is_quoted = len(column) > 1 and column[0] == column[-1] == '"'
    return column[1:-1].replace('""', '"') if is_quoted else column


def _json_lines(text: str, file: str) -> Iterator[Line | Problem]:
    for number, line in enumerate(text.split("\n"), 1):
        where = f"{file} line {number}"
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield Problem(where, "not JSON", str(error))
            continue
        row = _known_as(row) if isinstance(row, dict) else {}
        captions: list[Any] = row["captions"] if _has(row, "captions", list) else [row.get("caption")]
        if not all(isinstance(text, str) for text in (row.get("image"), *captions)):
            yield Problem(where, 'wanted an object with the texts "image" and "caption", or a list "captions"')
        else:
            yield from (Line(where, row["image"], caption, split_name(row.get("split"))) for caption in captions)


def _json(text: str, file: str) -> Iterator[Line | Problem]:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{file} is not JSON: line {error.lineno}: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is not JSON: {error}") from error
    images, annotations = (content.get(key) if isinstance(content, dict) else None for key in ("images", "annotations"))
    if isinstance(images, list) and isinstance(annotations, list):
        return _coco(images, annotations, file)
    if isinstance(images, list) and any(isinstance(image, dict) and "sentences" in image for image in images):
        return _karpathy(images, file)
    raise UserError(
        f'{file} is not COCO captions: wanted "images" with id, file_name and "annotations"; nor is it by Karpathy: '
        'wanted "images" with filename, split and "sentences"'
    )


def _coco(images: list[Any], annotations: list[Any], file: str) -> Iterator[Line | Problem]:
    names: dict[Any, str] = {}
    split_of: dict[Any, str | None] = {}
    doubtful: set[Any] = set()
    told = Counter(row["image_id"] for row in annotations if _has(row, "image_id", int | str))
    for number, image in enumerate(images):
        where = f"{file} image {number}"
        if not _has(image, "id", int | str) or not _has(image, "file_name", str):
            yield Problem(where, 'wanted an object with "id" and the text "file_name"')
            continue
        id, name = image["id"], image["file_name"]
        split = split_name(image.get("split"))
        split_of[id] = split if split in (*SPLITS, RESTVAL) else None  # train2014 and the like tell where it comes from
        if names.setdefault(id, name) != name:
            doubtful.add(id)
            which = f"{id}: {names[id]}, {name}; {told[id]} captions"
            yield Problem(where, "an id of two images; the captions of both are left out", which)
    for number, row in enumerate(annotations):
        where = f"{file} annotation {number}"
        if not _has(row, "image_id", int | str) or not _has(row, "caption", str):
            yield Problem(where, 'wanted an object with "image_id" and the text "caption"')
        elif row["image_id"] not in names:
            yield Problem(where, "no image has this id", str(row["image_id"]))
        elif row["image_id"] not in doubtful:
            id = None if row.get("id") is None else str(row["id"])
            yield Line(where, names[row["image_id"]], row["caption"], split_of[row["image_id"]], id)


def _karpathy(images: list[Any], file: str) -> Iterator[Line | Problem]:
    """An image's name is its filename below its filepath, where it has one, as in COCO: val2014/COCO_val2014_7.jpg."""
    seen: set[str] = set()
    for number, image in enumerate(images):
        where = f"{file} image {number}"
        if not _has(image, "filename", str) or not _has(image, "sentences", list):
            yield Problem(where, 'wanted an object with the text "filename" and the list "sentences"')
            continue
        name = f"{image['filepath']}/{image['filename']}" if image.get("filepath") else image["filename"]
        if name in seen:
            yield Problem(where, "an image given before; this time it is left out", name)
            continue
        seen.add(name)
        if not image["sentences"]:
            yield Problem(where, "the image has no captions", name)
        for sentence in image["sentences"]:
            if not _has(sentence, "raw", str):
                yield Problem(where, 'wanted sentences with the text "raw"', name)
            else:
                yield Line(where, name, sentence["raw"], split_name(image.get("split")))


def _has(row: Any, key: str, kind: Any) -> bool:
    return isinstance(row, dict) and isinstance(row.get(key), kind)


def _tokens(text: str, file: str) -> Iterator[Line | Problem]:
    for number, line in enumerate(text.split("\n"), 1):
        where = f"{file} line {number}"
        if not line.strip():
            continue
        image, tab, caption = line.partition("\t")
        name, _, place = image.strip().rpartition("#")
        if not tab:
            yield Problem(where, "no tab between image and caption")
        elif name and (place.isdecimal() or not place):
            yield Line(where, name, caption, id=image.strip() if place else None)
        else:
            yield Line(where, image, caption)
