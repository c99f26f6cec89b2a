"""Pictures on the web: fetched into memory, and only where that is asked for."""

from typing import NamedTuple

from captioner_jax.data.images import ImageError

MEBIBYTE = 2**20
LARGEST = 64 * MEBIBYTE
# Seconds until a server answers, and between two pieces of what it sends.
PATIENCE = (10, 30)


class Address(NamedTuple):
    """Of a picture: http://... or https://..."""

    url: str

    def __str__(self) -> str:
        return self.url


def is_address(name: str) -> bool:
    """Does this name a picture on the web?"""
    return name.lower().startswith(("http://", "https://"))


def fetch(address: Address) -> bytes:
    """What is found there, up to 64 MiB. Raises ImageError where nothing is, and for more."""
    import requests  # here, since it is slow to import and seldom needed

    try:
        with requests.get(address.url, stream=True, timeout=PATIENCE) as answer:
            if not answer.ok:
                raise ImageError(f"the server answers {answer.status_code} {answer.reason}")
            received = bytearray()
            for piece in answer.iter_content(MEBIBYTE):
                received += piece
                if len(received) > LARGEST:
                    raise ImageError(f"more than {LARGEST // MEBIBYTE} MiB")
            return bytes(received)
    except requests.ConnectionError as error:
        raise ImageError("the server cannot be reached") from error
    except (requests.RequestException, ValueError) as error:  # urllib3 has errors of its own for odd addresses
        raise ImageError(f"could not be fetched: {error}") from error
