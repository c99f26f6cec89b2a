"""Mistakes that are the user's to mend: shown as one message, without a traceback."""

import errno
import functools
import os
import sys
from collections.abc import Callable

# No room on a disk, or in a share of it.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class UserError(Exception):
    """Says what is wrong, where, and what to do about it."""


def for_people(main: Callable[[list[str]], int]) -> Callable[[list[str]], int]:
    """A program that ends with its exit code, with 1 and a message after a UserError, with 130 after Ctrl-C.

    With 141, as others do, and without a word where nobody reads its output any more. A full disk is such a mistake.
    """

    @functools.wraps(main)
    def program(arguments: list[str]) -> int:
        try:
            return main(arguments)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still to be flushed
            return 141
        except OSError as error:
            if error.errno not in FULL:
                raise
            print(f"error: {error.filename or 'a file'}: {error.strerror}: make room for it", file=sys.stderr)
            return 1

    return program
