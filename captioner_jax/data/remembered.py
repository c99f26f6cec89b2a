"""What takes long to find out about files that do not change, kept in the user's cache directory between runs."""

import hashlib
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import platformdirs

from captioner_jax.files import write_whole

T = TypeVar("T")
log = logging.getLogger(__name__)
FOLDER = Path(platformdirs.user_cache_dir("captioner_jax")) / "data"
# Seconds; what takes less is found out anew.
WORTH = 1.0


def remembered(made_from: list[Any], make: Callable[[], T]) -> T:
    """What `make` returns, which JSON must be able to hold; from the last time, if `made_from` was the same then. Where
    `make` is mended, that is to tell so.

    Lists come back as lists, tuples too.
    """
    file = FOLDER / f"{hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:32]}.json"
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        began = time.monotonic()
        made = make()
        if time.monotonic() - began >= WORTH:
            _keep(file, made)
        return made


def _keep(file: Path, made: Any) -> None:
    """A cache that cannot be written is no reason to stop."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps(made))
    except OSError as error:
        log.warning("%s cannot be kept for the next run: %s", file, error)
