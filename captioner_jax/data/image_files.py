"""Where encoded images lie: a folder, or a .tar that is read in place."""

import contextlib
import os
import posixpath
import tarfile
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from captioner_jax.errors import UserError, naming

# Of the names of images that are looked for, in shards and beside captions.
ENDINGS = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm", "img")


@runtime_checkable
class ImageFiles(Protocol):
    """Encoded images by name."""

    def __contains__(self, name: str) -> bool: ...

    def read(self, name: str) -> bytes: ...


class Folder:
    """The files below a folder, by their path from it; or by a whole path, by one as Windows writes it, or in another
    form of Unicode."""

    def __init__(self, path: Path):
        self.path = path

    def __contains__(self, name: str) -> bool:
        return self.file(name) is not None

    def read(self, name: str) -> bytes:
        """Raises OSError where the file cannot be read."""
        try:
            return (self.path / name).read_bytes()  # as it stands, which most do
        except FileNotFoundError:
            return (self.file(name) or self.path / name).read_bytes()

    def others(self, named: Iterable[str]) -> Iterator[str]:
        """Images that are there and are none of those named, folder by folder."""
        taken = {file for name in named if (file := self.file(name)) is not None}
        seen: set[str] = set()
        for folder, below, files in os.walk(self.path, followlinks=True):
            if (place := os.path.realpath(folder)) in seen:  # by another link, or in a loop of them
                below.clear()
                continue
            seen.add(place)
            below[:] = sorted(name for name in below if not is_hidden(name))
            here = (Path(folder, name) for name in sorted(files) if _is_picture(name) and not is_hidden(name))
            yield from (file.relative_to(self.path).as_posix() for file in here if file not in taken)

    def file(self, name: str) -> Path | None:
        """The file that is meant, where there is one within the folder."""
        for spelt in map(Path, _spellings(name)):
            if spelt.is_absolute() and spelt.is_relative_to(root := self.path.absolute()):
                spelt = spelt.relative_to(root)
            file = self.path / spelt
            with contextlib.suppress(OSError, ValueError):  # a name that no file can have
                if not spelt.is_absolute() and ".." not in spelt.parts and file.is_file():
                    return file
        return None


class Member(NamedTuple):
    """A file in a tar, and where its bytes lie."""

    name: str
    offset: int
    size: int


class DamageError(ValueError):
    """A tar that is damaged, compressed, cut short or none at all."""


def members(path: Path) -> Iterator[Member]:
    """The files in an uncompressed tar. Raises DamageError after those that could be read, OSError where none can."""
    end = path.stat().st_size
    try:
        with tarfile.open(path, "r:") as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # pyright: ignore[reportAttributeAccessIssue]  # or it would keep a million of them
                if member.isfile():
                    if member.offset_data + member.size > end:
                        raise DamageError(f"it ends in the middle of {member.name}")
                    yield Member(posixpath.normpath(member.name), member.offset_data, member.size)
            begin = archive.offset
    except (tarfile.TarError, EOFError) as error:
        raise DamageError(str(error)) from error
    with open(path, "rb") as file:  # tarfile takes a damaged header for the end, and that is a block of zeros
        file.seek(begin)
        block = file.read(tarfile.BLOCKSIZE)
        if not block or block.strip(b"\0"):
            raise DamageError(f"at byte {begin} is neither a file nor its proper end")


def read_member(path: Path, offset: int, size: int) -> bytes:
    """The bytes of a file in a tar. Raises OSError where the tar cannot be read."""
    with open(path, "rb") as archive:
        archive.seek(offset)
        return archive.read(size)


class Tar:
    """The files in an uncompressed tar, by their path in it; where that is unique, by their bare name too.

    The archive is listed once and stays closed, so that this can be sent to worker processes.
    """

    def __init__(self, path: Path):
        """Raises UserError where `path` is no uncompressed tar, or a damaged one."""
        self.path = path
        self.places: dict[str, tuple[int, int]] = {}
        bare: dict[str, list[tuple[int, int]]] = {}
        try:
            with naming(path):
                for member in members(path):
                    self.places[member.name] = (member.offset, member.size)
                    bare.setdefault(Path(member.name).name, []).append((member.offset, member.size))
        except DamageError as error:
            raise UserError(f"{path} is no whole, uncompressed tar file: {error}") from error
        for name, places in bare.items():
            if len(places) == 1:
                self.places.setdefault(name, places[0])

    def __contains__(self, name: str) -> bool:
        return name in self.places

    def read(self, name: str) -> bytes:
        """Raises OSError where the archive cannot be read."""
        return read_member(self.path, *self.places[name])

    def others(self, named: Iterable[str]) -> Iterator[str]:
        """Images that are there and are none of those named, in the order of the archive."""
        taken = {self.places[name] for name in named if name in self.places}
        for name, place in self.places.items():
            if place not in taken and _is_picture(name):
                taken.add(place)  # which has its bare name, too
                yield name


def is_hidden(name: str) -> bool:
    """Is a file or folder for programs rather than people: previews, what a Mac notes of a file on other disks?"""
    return name.startswith(".") or name == "@eaDir"


def _is_picture(name: str) -> bool:
    return name.rpartition(".")[2].lower() in ENDINGS


def _spellings(name: str) -> Iterator[str]:
    """As it stands; with the folders of Windows; letters and their accents together, or apart."""
    yield name
    slashes = name.replace("\\", "/")
    others = (slashes, *(unicodedata.normalize(form, slashes) for form in ("NFC", "NFD")))
    yield from (spelt for spelt in dict.fromkeys(others) if spelt != name)


def folders(root: Path) -> list[Path]:
    """Those in a folder that may be read, by name."""
    return sorted(path for path in root.iterdir() if path.is_dir() and os.access(path, os.R_OK | os.X_OK))


def open_images(path: Path) -> Folder | Tar:
    """The images in a folder or tar. Raises UserError where there is neither."""
    if path.is_dir():
        return Folder(path)
    if path.is_file():
        return Tar(path)
    raise UserError(f"{path}: no such folder or tar file of images; --data.images names it, relative to --data.path")
