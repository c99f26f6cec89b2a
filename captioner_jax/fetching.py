"""Pictures on the web: fetched into memory, and only where that is asked for."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from captioner_jax.data.images import ImageError

if TYPE_CHECKING:
    from requests import Response

MEBIBYTE = 2**20
LARGEST = 64 * MEBIBYTE
# Seconds until a server answers, and between two pieces of what it sends.
PATIENCE = (10, 30)
# Seconds that it may take to send all of it.
LONGEST = 60


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
    import requests  # here, since it is slow to import and seldom needed
    from urllib3.exceptions import HTTPError

    try:
        with requests.get(address.url, stream=True, timeout=PATIENCE) as answer:
            if not answer.ok:
                raise ImageError(f"the server answers {answer.status_code} {answer.reason}")
            received = bytearray()
            for piece in _pieces(answer):
                received += piece
                if len(received) > LARGEST:
                    raise ImageError(f"more than {LARGEST // MEBIBYTE} MiB")
            return bytes(received)
    except requests.ConnectionError as error:
        raise ImageError("the server cannot be reached") from error
    except (requests.RequestException, HTTPError, ValueError) as error:  # odd addresses have errors of their own
        raise ImageError(f"could not be fetched: {error}") from error


def _pieces(answer: "Response") -> Iterator[bytes]:
    """What is sent, as soon as it comes: a server that lets it drip must not keep us."""
    until = time.monotonic() + LONGEST
    while piece := answer.raw.read1(MEBIBYTE, decode_content=True):
        yield piece
        if time.monotonic() > until:
            raise ImageError(f"the server took more than {LONGEST} seconds to send it")
