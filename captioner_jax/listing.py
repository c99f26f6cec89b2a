"""Which image files are meant: by their names, by their folder, by a pattern, or by a list on standard input."""

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from PIL import Image

STDIN = "-"


def find(names: Iterable[str], recursive: bool, stdin: Iterable[str]) -> Iterator[Path]:
    """The files, one after the other: themselves, the images in a folder, what a pattern matches, the lines of a list.

    What is not there stays as it is, to be told with the others that are of no use. Names in a folder are sorted.
    """
    for name in names:
        if name == STDIN:
            yield from (Path(line.rstrip("\r\n")) for line in stdin if line.strip())
        elif Path(name).is_dir():
            yield from _in_folder(Path(name), recursive)
        elif Path(name).exists():
            yield Path(name)
        else:
            yield from map(Path, sorted(glob.glob(name, recursive=True)) or [name])


def _in_folder(folder: Path, recursive: bool) -> Iterator[Path]:
    kinds = Image.registered_extensions()
    with os.scandir(folder) as entries:
        found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    for name, is_folder in found:
        if is_folder and recursive:
            yield from _in_folder(folder / name, recursive)
        elif not is_folder and Path(name).suffix.lower() in kinds:
            yield folder / name
