"""Text that people are shown: what files are called, and what captions say, must not steer the terminal."""

import re

# C0, DEL and C1 of ISO 6429, by which a terminal is told what to do and where lines end.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def printable(text: str, *, lines: bool = False) -> str:
    r"""The same with control characters as Python writes them: \x1b. With `lines`, ends of lines stay."""
    return _CONTROLS.sub(lambda found: found[0] if lines and found[0] == "\n" else _written(found[0]), text)


def _written(letter: str) -> str:
    return letter.encode("unicode_escape").decode()
