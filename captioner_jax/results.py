"""Where captions go: lines of text, JSON or CSV, on standard output or in a file; and files beside the images.

What is told of an image is written in one piece, so that a run that is cut short leaves whole lines, and another can go
on where it stopped.
"""

import contextlib
import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TextIO

from captioner_jax.captioning import Caption
from captioner_jax.errors import UserError
from captioner_jax.files import write_whole

Format = Literal["text", "jsonl", "csv"]
COLUMNS = ("image", "caption", "score", "log_p")


def lines_of(image: Path, captions: Sequence[Caption], format: Format) -> str:
    """A line a caption."""
    rows = [dict(zip(COLUMNS, (str(image), *caption), strict=True)) for caption in captions]
    match format:
        case "text":
            return "".join(f"{row['image']}: {row['caption']}\n" for row in rows)
        case "jsonl":
            return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        case "csv":
            return _csv([list(row.values()) for row in rows])


def head(format: Format) -> str:
    """What comes before the first line."""
    return _csv([COLUMNS]) if format == "csv" else ""


def _csv(rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


class Written(NamedTuple):
    """A file of captions to be written on, and the images that it has already."""

    file: TextIO
    images: frozenset[str]


def tell(out: TextIO | io.TextIOBase, text: str, where: str) -> None:
    """Writes at once. Raises UserError where there is no room."""
    try:
        out.write(text)
        out.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        with contextlib.suppress(OSError):
            out.close()  # which tries once more to write
        raise UserError(f"{where}: {error.strerror or error}") from error


def open_results(path: Path, format: Format, resume: bool, force: bool) -> Written:
    """A new file of captions, or one to go on with, from its last image on.

    Raises UserError where there is one and neither is asked for, and where it is not of this format.
    """
    try:
        if resume and path.exists():
            images = _without_the_last(path, format)
            return Written(open(path, "a", encoding="utf-8", errors="surrogateescape", newline=""), images)
        file = open(path, "w" if force else "x", encoding="utf-8", errors="surrogateescape", newline="")  # noqa: SIM115
    except FileExistsError as error:
        raise UserError(f"{path} is there already: --resume goes on with it, --force writes it anew") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error
    tell(file, head(format), str(path))
    return Written(file, frozenset())


def _without_the_last(path: Path, format: Format) -> frozenset[str]:
    """The images in the file, from which all of the last image is cut off: who knows how much of it was to come."""
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    whole = text[: text.rfind("\n") + 1]
    try:
        match format:
            case "jsonl":
                rows = [(json.loads(line)["image"], f"{line}\n") for line in whole.split("\n")[:-1]]
            case "csv":
                first, *others = [*csv.reader(io.StringIO(whole, newline=""))] or [list(COLUMNS)]
                if tuple(first) != COLUMNS:
                    raise ValueError(f"its columns are {', '.join(first)}")
                rows = [(row[0], _csv([row])) for row in others]
            case "text":
                raise UserError("--resume goes on with --format jsonl or csv: in text no name ends for certain")
    except (ValueError, KeyError, TypeError, IndexError, csv.Error) as error:
        raise UserError(f"{path} holds no captions as {format}: {error}") from error
    last = rows[-1][0] if rows else None
    kept = [(image, row) for image, row in rows if image != last]
    write_whole(path, head(format) + "".join(row for _, row in kept))
    return frozenset(image for image, _ in kept)


def sidecar(image: Path) -> Path:
    """The text file beside an image, where those who train on pictures look for its caption."""
    return image.with_suffix(".txt")


def write_sidecar(image: Path, captions: Sequence[Caption], force: bool) -> bool:
    """A line a caption. False, and nothing written, where there is such a file and `force` is not asked for.

    Raises UserError where it cannot be written.
    """
    file = sidecar(image)
    try:
        if file.exists() and not force:
            return False
        write_whole(file, "".join(caption.text + "\n" for caption in captions))
    except OSError as error:
        raise UserError(f"{file}: {error.strerror or error}") from error
    return True
