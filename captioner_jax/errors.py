"""Mistakes that are the user's to mend: shown as one message, without a traceback."""

import functools
import os
import sys
from collections.abc import Callable


class UserError(Exception):
    """Says what is wrong, where, and what to do about it."""


def for_people(main: Callable[[list[str]], int]) -> Callable[[list[str]], int]:
    """A program that ends with its exit code, with 1 and a message after a UserError, with 130 after Ctrl-C.

    With 141, as others do, and without a word where nobody reads its output any more.
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

    return program
