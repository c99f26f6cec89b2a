"""Where captions go: lines of text, JSON or CSV, on standard output or in a file; and files beside or in the images.

What is told of an image is written in one piece, so that a run that is cut short leaves whole lines, and another can go
on where it stopped.
"""

import contextlib
import csv
import fcntl
import io
import json
import os
import re
import stat
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TextIO, cast

import tqdm

from captioner_jax.data.images import ImageError
from captioner_jax.errors import FULL, UserError
from captioner_jax.fetching import Address
from captioner_jax.files import write_whole
from captioner_jax.generation.caption import Caption
from captioner_jax.metadata import describe, is_described
from captioner_jax.printable import printable

Stream = TextIO | io.TextIOBase
Format = Literal["text", "jsonl", "csv"]
STDOUT = "standard output"
CAPTION = "{caption}"
COLUMNS = ("image", "caption", "score", "log_p")
# Bytes in names of files that are no UTF-8, which a JSON file has to be.
_LONE = re.compile("[\ud800-\udfff]")


def lines_of(image: Path | Address, captions: Sequence[Caption], format: Format) -> str:
    """A line a caption."""
    rows = [dict(zip(COLUMNS, (str(image), *caption), strict=True)) for caption in captions]
    match format:
        case "text":
            return "".join(printable(f"{row['image']}: {row['caption']}") + "\n" for row in rows)
        case "jsonl":
            return "".join(_LONE.sub(_escaped, json.dumps(row, ensure_ascii=False)) + "\n" for row in rows)
        case "csv":
            return _csv([list(row.values()) for row in rows])


def _escaped(letter: re.Match[str]) -> str:
    return f"\\u{ord(letter[0]):04x}"


def head(format: Format) -> str:
    """What comes before the first line."""
    return _csv([COLUMNS]) if format == "csv" else ""


def _csv(rows: Sequence[Sequence[object]]) -> str:
    """With \r in a name quoted, too, which the writer does where its own lines end in it."""
    lines = []
    for row in rows:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\r\n").writerow(row)
        lines.append(text.getvalue().removesuffix("\r\n") + "\n")
    return "".join(lines)


class Begun(NamedTuple):
    """A file of captions to be written on, and the images that it has already."""

    file: TextIO
    images: frozenset[str]
    gives_way: bool = False
    """What stands in it is to go, as soon as there is something to take its place."""


def tell(out: Stream, text: str, where: str) -> None:
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


def open_results(path: Path, format: Format, resume: bool, force: bool, captions: int) -> Begun:
    """A new file of captions, or one to go on with, whose last image comes again if its captions, of which so
    many are wanted, were not finished.

    Raises UserError where there is one and neither is asked for, and where it is not of this format.
    """
    try:
        if resume and path.exists():
            with _alone(path, "r+"):
                images = _whole(path, format, captions)
                return Begun(_alone(path, "a"), images)
        if force and path.is_file():
            return Begun(_alone(path, "r+"), frozenset(), True)
        file = _alone(path, "w" if force else "x")
    except BlockingIOError as error:
        raise UserError(f"{path}: another process writes there: name another --output, or wait for it") from error
    except FileExistsError as error:
        go_on = "" if format == "text" else "--resume goes on with it, "
        raise UserError(f"{path} is there already: {go_on}--force writes it anew") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error
    tell(file, head(format), str(path))
    return Begun(file, frozenset())


def _alone(path: Path, mode: str) -> TextIO:
    """The file, which no other process that asks so gets as long as it is open.

    Raises BlockingIOError where one has it, and OSError where there is no such file.
    """
    file = cast(TextIO, open(path, mode, encoding="utf-8", errors="surrogateescape", newline=""))  # noqa: SIM115
    try:
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # a pipe, or /dev/null, may be everybody's
            _lock(file, path)
    except BlockingIOError:
        file.close()
        raise
    return file


def _lock(file: TextIO, path: Path) -> None:
    """Raises BlockingIOError where another process has it, or has put another in its place just now."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # it knows no locks
        return
    if not os.path.samestat(os.fstat(file.fileno()), path.stat()):
        raise BlockingIOError


def _whole(path: Path, format: Format, captions: int) -> frozenset[str]:
    """The images in the file. A line that was not finished is cut off, and so is then the last image where it has fewer
    than so many captions: who knows how many were to come."""
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        text = file.read()
    whole = text[: text.rfind("\n") + 1]
    is_finished = whole == text
    try:
        match format:
            case "jsonl":
                rows = [(json.loads(line)["image"], f"{line}\n") for line in whole.split("\n")[:-1]]
            case "csv":
                first, *others = [*csv.reader(io.StringIO(whole, newline=""))] or [list(COLUMNS)]
                if tuple(first) != COLUMNS:
                    raise ValueError(f"its columns are {', '.join(first)}")
                others = [row for row in others if row]
                if others and len(others[-1]) < len(COLUMNS):  # within a name that holds an end of line
                    is_finished, others = False, others[:-1]
                rows = [(row[0], _csv([row])) for row in others]
            case "text":
                raise UserError("--resume goes on with --format jsonl or csv: in text no name ends for certain")
    except (ValueError, KeyError, TypeError, IndexError, csv.Error) as error:
        raise UserError(f"{path} holds no captions as {format}: {error}") from error
    last = rows[-1][0] if rows else None
    is_whole = is_finished or [image for image, _ in rows].count(str(last)) >= captions
    kept = rows if is_whole else [(image, row) for image, row in rows if image != last]
    write_whole(path, head(format) + "".join(row for _, row in kept))
    return frozenset(image for image, _ in kept)


class Place(NamedTuple):
    """Where captions may be kept with an image, besides."""

    name: str
    file: Callable[[Path], Path]
    """The one that they go into."""
    has: Callable[[Path], bool]
    """Is something there already?"""
    write: Callable[[Path, Sequence[Caption]], None]


def sidecar(image: Path, ending: str = ".txt") -> Path:
    """The text file beside an image, where those who train on pictures look for its caption.

    Raises ImageError where that would be the image itself.
    """
    if image.suffix.lower() == ending.lower():
        raise ImageError("its name is that of a text file, and a file beside it would take its place")
    return image.with_suffix(ending)


def sidecars(ending: str = ".txt", text: str = CAPTION) -> Place:
    """Files beside images, with a line a caption: this text, in which the caption stands in `CAPTION`'s place."""

    def is_there(image: Path) -> bool:
        file = sidecar(image, ending)
        return os.path.lexists(file) and not file.is_dir()  # a link to nothing, too

    def write(image: Path, captions: Sequence[Caption]) -> None:
        lines = (text.replace(CAPTION, caption.text) + "\n" for caption in captions)
        write_whole(sidecar(image, ending), "".join(lines))

    return Place("files beside images", lambda image: sidecar(image, ending), is_there, write)


DESCRIPTIONS = Place(
    "descriptions in images",
    lambda image: image,
    is_described,
    lambda image, captions: describe(image, captions[0].text),
)


class Results:
    """Tells captions on `out`, which is the file `output` or standard output, keeps them in `places`, and counts."""

    def __init__(
        self,
        out: Stream,
        output: Path | None,
        format: Format,
        places: Sequence[Place],
        force: bool,
        gives_way: bool = False,
    ):
        """`gives_way` says whether what stands in `out` is to go once there is a caption."""
        self.out, self.output, self.places, self.force = out, output, places, force
        self.gives_way = gives_way
        self.format: Format = format
        self.seen = 0
        self.without = 0
        self.stayed: Counter[str] = Counter()
        self.owners: dict[str, str] = {}
        """Of each file beside an image that captions were written into, the image's ending."""

    def add(self, picture: Path | Address, captions: Sequence[Caption] | ImageError) -> None:
        """Of one picture. What is wrong with it is told on standard error."""
        self.seen += 1
        try:
            if isinstance(captions, ImageError):
                raise captions
            if not captions:
                raise ImageError("what is asked of captions leaves none")
            wrong = self._kept_in_all(picture, captions)
            self._tell(lines_of(picture, captions, self.format))  # last, as it says that this picture is done
            if wrong:
                raise ImageError("; ".join(wrong))
        except ImageError as error:
            self.without += 1
            tqdm.tqdm.write(printable(f"{picture}: {error}"), file=sys.stderr)

    def summary(self) -> Iterator[str]:
        """What is to be said at the end."""
        for name, count in self.stayed.items():
            yield f"{name} that were there already and stay: {count}; --force writes them anew"
        if self.without and self.seen > 1:
            yield f"{self.without} of {self.seen} pictures could not be captioned as asked"

    def _tell(self, lines: str) -> None:
        if self.gives_way:
            self.out.seek(0)
            self.out.truncate()
            lines = head(self.format) + lines
            self.gives_way = False
        tell(self.out, lines, str(self.output or STDOUT))

    def _kept_in_all(self, picture: Path | Address, captions: Sequence[Caption]) -> list[str]:
        """Why they could not be kept in some places."""
        wrong = []
        for place in self.places:
            try:
                self._keep(place, picture, captions)
            except ImageError as error:
                wrong.append(str(error))
        return wrong

    def _keep(self, place: Place, picture: Path | Address, captions: Sequence[Caption]) -> None:
        """Raises ImageError where it cannot be kept, and UserError where there is no room for any."""
        if isinstance(picture, Address):
            raise ImageError(f"there are no {place.name} on the web")
        image = picture.parent.resolve() / picture.name
        file = place.file(image)
        if self.output is not None and file == self.output.resolve():
            raise ImageError(f"{file.name} is what all captions are written to: name another --output")
        if (owner := self.owners.get(str(file), image.suffix)) != image.suffix:
            raise ImageError(f"{file.name} is already that of {file.stem}{owner}")
        try:
            if not self.force and place.has(image):
                self.stayed[place.name] += 1
                return
            place.write(image, captions)
        except OSError as error:
            kind, name = (UserError, file) if error.errno in FULL else (ImageError, file.name)
            raise kind(f"{name}: {error.strerror or error}") from error
        if file != image:
            self.owners[str(file)] = sys.intern(image.suffix)
