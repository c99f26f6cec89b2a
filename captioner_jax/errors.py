"""Mistakes that are the user's to mend: shown as one message, without a traceback."""

import contextlib
import errno
import functools
import io
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

from captioner_jax.printable import printable

# No room on a disk, or in a share of it.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# No permission, or none for anybody.
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


# What a supervisor starts again: EX_TEMPFAIL of sysexits.h. A mistake that starting again does not mend gives 1.
RESTART = 75
# By signals, as shells tell it: 128 and the signal's number; by SIGINT and SIGPIPE.
BY_SIGNAL = 128
# Seconds in which a second signal is taken for the first.
GRACE = 5
_signalled: list[float] = []
"""When such signals came."""
INTERRUPTED, UNREAD = 130, 141


class UserError(Exception):
    """Says what is wrong, where, and what to do about it."""

    code = 1
    """With which a program ends."""


class AbsentError(UserError):
    """What was looked for is not in what was named."""


class OutageError(UserError):
    """Something that others provide is not to be had now, and may be later."""

    code = RESTART


@contextlib.contextmanager
def naming(what: object, remedy: str = "") -> Iterator[None]:
    """Raises UserError where the system refuses something, by the name of what it was about and not of a part of it."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{what}: {error.strerror or error}{remedy}") from error


class TerminatedError(BaseException):
    """By a signal, whose number it has."""


def terminable() -> None:
    """SIGTERM and a terminal that goes away end the program as Ctrl-C does: what was begun is cleared away."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:  # not where it is ignored, as by nohup
            signal.signal(number, _terminate)


def _terminate(number: int, frame: FrameType | None) -> None:
    """The first of these signals; one that comes soon after would cut short what is being cleared away, and one that
    comes long after is meant for what did not heed the first."""
    _signalled.append(time.monotonic())
    if len(_signalled) == 1:
        raise TerminatedError(number)
    if _signalled[-1] - _signalled[0] > GRACE:
        os._exit(BY_SIGNAL + number)


def interruptible() -> None:
    """Ctrl-C ends the program with 130 from now on, until its `main` begins: for what takes a while to import.

    Libraries that are being imported would make other errors of an exception.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where it is ignored, as by nohup
        signal.signal(signal.SIGINT, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, b"interrupted\n")
    os._exit(INTERRUPTED)


def leave(code: int, *, waits: bool = True) -> NoReturn:
    """Ends the program, all of whose `finally`s are done. It `waits` for threads that are left, but after a signal and
    where nobody reads any more: they may wait for a picture that never comes, and the compiler's do not survive."""
    if waits and code < BY_SIGNAL:
        sys.exit(code)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, full, or none at all
            stream.flush()
    os._exit(code)


def for_people(main: Callable[[list[str]], int]) -> Callable[[list[str]], int]:
    """A program that ends with its exit code, with a UserError's and its message, with 130 after Ctrl-C.

    With 141, as others do, and without a word where nobody reads its output any more. Such mistakes are a full disk and
    a file that may not be used.
    """

    @functools.wraps(main)
    def program(arguments: list[str]) -> int:
        if sys.stderr is None:  # closed: what is printed there would come among what is asked for
            sys.stderr = open(os.devnull, "w")  # noqa: SIM115
        try:
            if getattr(sys.stdout, "errors", None) == "strict" and isinstance(sys.stdout, io.TextIOWrapper):
                sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be no UTF-8
            if signal.getsignal(signal.SIGINT) is _leave:
                signal.signal(signal.SIGINT, signal.default_int_handler)
            return main(arguments)
        except UserError as error:
            print(f"error: {printable(str(error), lines=True)}", file=sys.stderr)
            return error.code
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return INTERRUPTED
        except TerminatedError as error:
            return BY_SIGNAL + error.args[0]
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still to be flushed
            return UNREAD
        except OSError as error:
            if error.errno not in FULL and not (error.errno in FORBIDDEN and error.filename):
                raise
            remedy = "make room for it" if error.errno in FULL else "this user may not use it"
            print(f"error: {error.filename or 'a file'}: {error.strerror}: {remedy}", file=sys.stderr)
            return 1

    return program
