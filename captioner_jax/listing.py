"""Which pictures are meant: by their names or addresses, their folder, a pattern, a list on standard input."""

import codecs
import functools
import glob
import io
import itertools
import os
import stat
import struct
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from PIL import Image

from captioner_jax.data.image_files import is_hidden
from captioner_jax.errors import UserError
from captioner_jax.fetching import Address, is_address

STDIN = "-"
# Bytes of a list that are read at a time, if they are there.
PIECE = 2**16
# Bytes of a list for each row of a batch, at which it is long: three names or so.
LONG = 2**8
# What Pillow knows the names of, and does not read by itself, or that are no pictures, but programs or films.
_NO_PICTURES = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "PALM", "PDF"}
# What telephones write, which Pillow reads with an extra; without that it is told, not passed over.
_TELEPHONES = {".heic", ".heif"}
# Photographs as cameras' sensors saw them, and kinds that browsers know and Pillow does not: counted, not passed over
# without a word.
_UNREADABLE = {
    *(".3fr", ".arw", ".cr2", ".cr3", ".dng", ".erf", ".iiq", ".kdc", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf"),
    *(".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f", ".jxl", ".svg"),
}
# A file's size and when it was written; none if it has gone.
State = tuple[int, int] | None


def find(
    names: Iterable[str], recursive: bool, stdin: Iterable[str], passed_over: set[str] | None = None
) -> Iterator[Path | Address]:
    """One after the other: files themselves, the images in a folder, what a pattern matches, the names in a list, of
    which each ends with its line or, in a list of those, with a zero byte (as those of find -print0).

    What is not there stays as it is, to be told with the others that are of no use. Names in a folder are sorted.
    A picture that is meant by several of the names comes once. Pictures in folders of kinds that Pillow cannot read are
    left out, and noted in `passed_over`. Raises UserError where the list cannot be read.
    """
    names, passed_over = [*names], set() if passed_over is None else passed_over
    if len(names) == 1:
        yield from _meant(names[0], recursive, stdin, passed_over)
        return
    seen: set[str | Address] = set()
    for picture in itertools.chain.from_iterable(_meant(name, recursive, stdin, passed_over) for name in names):
        if (known_as := _whole_name(picture) if isinstance(picture, Path) else picture) not in seen:
            seen.add(known_as)
            yield picture


def _meant(name: str, recursive: bool, stdin: Iterable[str], passed_over: set[str]) -> Iterator[Path | Address]:
    """By one name."""
    if name == STDIN:
        yield from (_named(one) for one in _split(_pieces(stdin)) if one.strip())
    # Not the methods of Path, which raise errors for names that are too long or may not be looked for.
    elif os.path.isdir(name):  # noqa: PTH112
        yield from _in_folder(Path(name), recursive, passed_over)
    elif is_address(name) or os.path.exists(name):  # noqa: PTH110
        yield _named(name)
    else:
        yield from _matches(name, recursive, passed_over)


def arrivals(folder: Path, recursive: bool, written_into: bool, pause: float = 1.0) -> Iterator[list[Path]]:
    """The images in a folder and, for ever, those that come or change, as soon as they are at rest; often none.

    A file is at rest when two looks, `pause` seconds apart, find it the same. Where the caller writes into files,
    what happens to them while it has them does not count.
    """
    before: dict[Path, State] = {}
    known: dict[Path, State] = {}
    while True:
        now = {path: _state(path) for path in _in_folder(folder, recursive, set())}
        new = [path for path, state in now.items() if state == before.get(path) and state != known.get(path)]
        yield new
        known |= {path: _state(path) if written_into else now[path] for path in new}
        before = now
        time.sleep(pause)


def is_long(stdin: Iterable[str], rows: int) -> bool:
    """Does a list on standard input, not looked into yet, have names for several batches of so many rows already?"""
    try:
        import fcntl
        import termios

        waiting = struct.unpack("i", fcntl.ioctl(stdin.fileno(), termios.FIONREAD, bytes(4)))[0]  # type: ignore[attr-defined]
    except (ImportError, AttributeError, OSError, ValueError):  # not on this system, or no file
        return False
    return waiting >= LONG * rows


def _pieces(stdin: Iterable[str]) -> Iterator[str]:
    """What is there, as it comes, and with all the bytes that names of files may have."""
    if not isinstance(stdin, io.TextIOWrapper):
        yield from stdin
        return
    decode = codecs.getincrementaldecoder(sys.getfilesystemencoding())("surrogateescape").decode
    try:
        while piece := os.read(stdin.fileno(), PIECE):
            yield decode(piece)
    except OSError as error:
        raise UserError(f"standard input: {error.strerror or error}") from error
    yield decode(b"", True)


def _split(pieces: Iterable[str]) -> Iterator[str]:
    """The names in a list; its first piece shows what they end with."""
    end, rest = "", ""
    for piece in filter(None, pieces):  # of a letter of several bytes the first may come alone
        piece = piece if end else piece.removeprefix("\ufeff")
        end = end or ("\0" if "\0" in piece else "\n")
        *whole, rest = (rest + piece).split(end)
        yield from (name for one in whole for name in _whole(one, end))
    yield from _whole(rest, end)


def _whole(name: str, end: str) -> list[str]:
    return [name] if end == "\0" else name.removesuffix("\r").split("\0")  # which no name holds


def _matches(pattern: str, recursive: bool, passed_over: set[str]) -> list[Path]:
    """What a pattern matches, each once, though a folder and what is in it may both be; or the pattern itself."""
    found: dict[Path, None] = {}
    for name in sorted(glob.glob(pattern, recursive=True)) or [pattern]:
        path = Path(name)
        is_folder = os.path.isdir(name)  # noqa: PTH112
        found |= dict.fromkeys(_in_folder(path, recursive, passed_over) if is_folder else [path])
    return [*found]


def has_picture_name(path: Path) -> bool:
    """Does the name end as those of pictures do?"""
    return path.suffix.lower() in _endings()


@functools.cache
def _endings() -> frozenset[str]:
    known = Image.registered_extensions().items()
    return frozenset(ending for ending, kind in known if kind not in _NO_PICTURES) | _TELEPHONES


def _named(name: str) -> Path | Address:
    return Address(name) if is_address(name) else Path(name)


def _state(path: Path) -> State:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _in_folder(folder: Path, recursive: bool, passed_over: set[str]) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            found = sorted(
                (entry.name, entry.is_dir(follow_symlinks=False))
                for entry in entries
                if not (is_hidden(entry.name) or _is_pipe(entry))
            )
    except OSError:
        yield folder  # whoever opens it learns what is wrong
        return
    for name, is_folder in found:
        if is_folder and recursive:
            yield from _in_folder(folder / name, recursive, passed_over)
        elif not is_folder and has_picture_name(Path(name)):
            yield folder / name
        elif not is_folder and Path(name).suffix.lower() in _UNREADABLE:
            passed_over.add(_whole_name(folder / name))


def _whole_name(picture: Path) -> str:
    """One however it is named: links to its folder are followed, and not the one that it may be itself."""
    return f"{_real(str(Path.cwd() / picture.parent))}{os.sep}{picture.name}"


@functools.lru_cache(maxsize=4096)
def _real(folder: str) -> str:
    return os.path.realpath(folder)


def _is_pipe(entry: os.DirEntry[str]) -> bool:
    """Is this no folder, file or link to such, but a named pipe or the like, at which a reader might wait for ever?"""
    if not entry.is_symlink():
        return not (entry.is_dir() or entry.is_file())
    try:
        mode = entry.stat().st_mode
    except OSError:  # whoever opens it learns what is wrong
        return False
    return not (stat.S_ISDIR(mode) or stat.S_ISREG(mode))
