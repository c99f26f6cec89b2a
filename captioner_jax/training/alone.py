"""One process at a time trains into a run's folder."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from captioner_jax.errors import UserError

try:
    import fcntl
except ImportError:  # on Windows, where nothing is locked
    fcntl = None

LOCK = ".running"


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Raises UserError where another process of this machine trains into the folder.

    The lock goes with its process, however that ends. Where a folder cannot be made, or its file system knows no locks,
    there is none.
    """
    with contextlib.ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = held.enter_context((folder / LOCK).open("w"))
            if fcntl is not None:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held.callback((folder / LOCK).unlink, missing_ok=True)
        except BlockingIOError as error:
            raise UserError(f"{folder}: another process trains there: choose another --name for this") from error
        except OSError:
            held.close()
        yield
