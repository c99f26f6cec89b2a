"""Files that are there whole or not at all."""

import os
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Writes a text file beside its place and moves it there, so that nobody meets half of it."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text(text, encoding="utf-8", errors="surrogateescape")  # names of files may be no UTF-8
    partial.replace(path)
