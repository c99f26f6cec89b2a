"""Files and folders that are there whole or not at all."""

import contextlib
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

# Bytes that are read at once: many, since Python is left to other threads while they are looked through.
_PIECE = 2**24


def write_whole(path: Path, text: str) -> None:
    """Writes a text file beside its place and moves it there, so that nobody meets half of it."""
    write_bytes_whole(path, text.encode("utf-8", errors="surrogateescape"))  # names of files may be no UTF-8


def write_bytes_whole(path: Path, content: bytes) -> None:
    """The same of any file; a link stays one, and who may read and write the file may do so after."""
    path = path.resolve()
    partial = beside(path)
    try:
        partial.touch(0o600 if path.exists() else 0o666)  # nobody reads meanwhile what may be theirs alone
        partial.write_bytes(content)
        take_place(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def take_place(partial: Path, path: Path) -> None:
    """A file takes another's place, and its permissions and, as far as this user may give it away, its owner."""
    if path.exists():
        there = path.stat()
        for owner in ((-1, there.st_gid), (there.st_uid, -1)):
            with contextlib.suppress(OSError):
                os.chown(partial, *owner)
        with contextlib.suppress(OSError):
            shutil.copymode(path, partial)
    partial.replace(path)


def beside(path: Path) -> Path:
    """A name for what is to take the place of a file, not too long where the file's is as long as may be."""
    return path.with_name(f"{path.name[:40]}.{_mine()}.partial")


def _mine() -> str:
    """A word that no other process says, on whatever host: those in containers have the same few numbers."""
    return f"{os.getpid()}-{uuid.uuid4().hex[:8]}"


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A new folder to be filled, which takes the place of `path` when it is finished; if it is not, `path` stays.

    A link stays one.
    """
    path = path.resolve()
    partial, old = (path.with_name(f"{path.name[:40]}.{_mine()}.{kind}") for kind in ("partial", "old"))
    partial.mkdir(parents=True)
    try:
        yield partial
        if path.exists():
            path.rename(old)
        partial.rename(path)
    finally:
        if old.exists() and not path.exists():  # the new one could not take its place
            old.rename(path)
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def sha256(file: Path) -> str:
    """The checksum of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(file, "rb", buffering=0) as content:
        while piece := content.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
