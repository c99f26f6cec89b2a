"""Where encoded images lie: a folder, or a .tar that is read in place."""

import tarfile
from pathlib import Path
from typing import Protocol, runtime_checkable

from captioner_jax.errors import UserError


@runtime_checkable
class ImageFiles(Protocol):
    """Encoded images by name."""

    def __contains__(self, name: str) -> bool: ...

    def read(self, name: str) -> bytes: ...


class Folder:
    """The files below a folder, by their path from it."""

    def __init__(self, path: Path):
        self.path = path

    def __contains__(self, name: str) -> bool:
        inside = not Path(name).is_absolute() and ".." not in Path(name).parts
        return inside and (self.path / name).is_file()

    def read(self, name: str) -> bytes:
        """Raises OSError where the file cannot be read."""
        return (self.path / name).read_bytes()


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
            with tarfile.open(path, "r:") as archive:
                for member in archive:
                    if member.isfile():
                        place = (member.offset_data, member.size)
                        self.places[member.name.removeprefix("./")] = place
                        bare.setdefault(Path(member.name).name, []).append(place)
        except (tarfile.TarError, EOFError) as error:
            raise UserError(f"{path} is no whole, uncompressed tar file: {error}") from error
        for name, places in bare.items():
            if len(places) == 1:
                self.places.setdefault(name, places[0])

    def __contains__(self, name: str) -> bool:
        return name in self.places

    def read(self, name: str) -> bytes:
        """Raises OSError where the archive cannot be read."""
        offset, size = self.places[name]
        with open(self.path, "rb") as archive:
            archive.seek(offset)
            return archive.read(size)


def open_images(path: Path) -> ImageFiles:
    """The images in a folder or tar. Raises UserError where there is neither."""
    if path.is_dir():
        return Folder(path)
    if path.is_file():
        return Tar(path)
    raise UserError(f"{path}: no such folder or tar file of images; --data.images names it, relative to --data.path")
