"""Pictures on the web: fetched into memory, and only where that is asked for."""

import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urljoin

from captioner_jax.data.images import ImageError

if TYPE_CHECKING:
    from requests import Response

MEBIBYTE = 2**20
LARGEST = 64 * MEBIBYTE
# Seconds until a server answers, and between two pieces of what it sends.
PATIENCE = (10, 30)
# Seconds that all of it may take.
LONGEST = 60
# Other addresses that a server may send us to, one after the other.
REDIRECTS = 10


class Address(NamedTuple):
    """Of a picture: http://... or https://..."""

    url: str

    def __str__(self) -> str:
        return self.url


def is_address(name: str) -> bool:
    """Does this name a picture on the web?"""
    return name.lower().startswith(("http://", "https://"))


def fetch(address: Address) -> bytes:
    """What is found there, up to 64 MiB within a minute. Raises ImageError where nothing is, and for more."""
    found = Future[bytes]()

    def fetch_in_time() -> None:
        try:
            found.set_result(_fetched(address, time.monotonic() + LONGEST))
        except Exception as error:
            found.set_exception(error)

    # Nobody waits for it in the end: a server that lets its answer drip, line by line, would keep us.
    threading.Thread(target=fetch_in_time, daemon=True).start()
    try:
        return found.result(LONGEST)
    except TimeoutError as error:
        raise _late() from error


def _fetched(address: Address, until: float) -> bytes:
    import requests  # here, since it is slow to import and seldom needed
    from urllib3.exceptions import HTTPError

    try:
        with requests.Session() as session:
            session.get_redirect_target = lambda resp: None  # or it reads what comes with a redirection, however much
            url = address.url
            for _ in range(1 + REDIRECTS):
                with session.get(url, stream=True, timeout=PATIENCE) as answer:
                    elsewhere = requests.Session.get_redirect_target(session, answer)
                    if elsewhere is None:
                        return _content(answer, until)
                    url = urljoin(url, elsewhere)
            raise ImageError(f"the server sends us elsewhere more than {REDIRECTS} times")
    except ImageError:  # a ValueError, too
        raise
    except requests.ConnectionError as error:
        raise ImageError("the server cannot be reached") from error
    except (requests.RequestException, HTTPError, ValueError) as error:  # odd addresses have errors of their own
        raise ImageError(f"could not be fetched: {error}") from error


def _content(answer: "Response", until: float) -> bytes:
    """What is sent, as soon as it comes."""
    if not answer.ok:
        raise ImageError(f"the server answers {answer.status_code} {answer.reason}")
    received = bytearray()
    while piece := answer.raw.read1(MEBIBYTE, decode_content=True):
        received += piece
        if len(received) > LARGEST:
            raise ImageError(f"more than {LARGEST // MEBIBYTE} MiB")
        if time.monotonic() > until:
            raise _late()
    return bytes(received)


def _late() -> ImageError:
    return ImageError(f"the server took more than {LONGEST} seconds to send it")
