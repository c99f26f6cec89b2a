"""One process at a time trains into a run's folder."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from captioner_jax.errors import UserError

LOCK = ".running"


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Raises UserError where another process of this machine trains into the folder.

    The lock goes with its process, however that ends. Where a folder cannot be made, or its file system knows no locks,
    there is none.
    """
    with contextlib.ExitStack() as held:
        try:
            _lock(folder, held)
        except BlockingIOError as error:
            raise UserError(f"{folder}: another process trains there: choose another --name for this") from error
        except OSError:
            held.close()
        yield


def _lock(folder: Path, held: contextlib.ExitStack) -> None:
    """Raises BlockingIOError where another has it, or has just given it up."""
    folder.mkdir(parents=True, exist_ok=True)
    file, lock = held.enter_context((folder / LOCK).open("w")), folder / LOCK
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if not (lock.exists() and os.path.samestat(os.fstat(file.fileno()), lock.stat())):
        raise BlockingIOError
    held.callback(_remove, lock)


def _remove(lock: Path) -> None:
    with contextlib.suppress(OSError):
        lock.unlink()
