"""Pictures on the web: fetched where asked for, refused where there is something wrong."""

import contextlib
import gzip
import http.server
import threading
import time

import pytest

from captioner_jax import fetching
from captioner_jax.data.images import ImageError
from captioner_jax.fetching import Address, fetch, is_address

PICTURE = b"a picture" * 1000
# Where the server sends others to.
ELSEWHERE = {
    **dict.fromkeys(("/elsewhere", "/elsewhere-with-much"), "/picture.jpg"),
    **{"/round": "/round", "/file": "file:///etc/passwd"},
}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/picture.jpg":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(PICTURE)
        elif self.path in ELSEWHERE:
            self.send_response(302)
            self.send_header("Location", ELSEWHERE[self.path])
            self.end_headers()
            with contextlib.suppress(OSError):  # until nobody listens
                while self.path == "/elsewhere-with-much":
                    self.wfile.write(bytes(2**20))
        elif self.path == "/heads":
            self.send_response(200)
            with contextlib.suppress(OSError):
                while True:
                    self.send_header("X-More", "and more")
                    self.flush_headers()
                    time.sleep(0.01)
        elif self.path == "/drips":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):  # until nobody listens
                while True:
                    self.wfile.write(b"drop")
                    time.sleep(0.01)
        elif self.path == "/pieces":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            packed = gzip.compress(PICTURE)
            for piece in (packed[:20], packed[20:], b""):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        else:
            self.send_error(404)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()


@pytest.mark.parametrize("path", ["/picture.jpg", "/elsewhere", "/elsewhere-with-much", "/pieces"])
def test_what_is_there_is_fetched(server, path):
    assert fetch(Address(server + path)) == PICTURE


@pytest.mark.parametrize(
    ("path", "message"),
    [("/none.jpg", "404 Not Found"), ("/file", "could not be fetched"), ("/round", "more than 10 times")],
)
def test_what_is_not_there_is_said(server, path, message):
    with pytest.raises(ImageError, match=message):
        fetch(Address(server + path))


def test_no_server_and_no_address_are_said():
    with pytest.raises(ImageError, match="cannot be reached"):
        fetch(Address("http://127.0.0.1:9/picture.jpg"))
    with pytest.raises(ImageError, match="could not be fetched"):
        fetch(Address("http://"))
    with pytest.raises(ImageError, match="could not be fetched"):
        fetch(Address("https://example..org/dog.jpg"))


def test_more_than_a_picture_is_refused(server, monkeypatch):
    monkeypatch.setattr(fetching, "LARGEST", len(PICTURE) - 1)
    with pytest.raises(ImageError, match="more than"):
        fetch(Address(server + "/picture.jpg"))


@pytest.mark.parametrize("path", ["/drips", "/heads"])
def test_a_server_that_drips_is_left(server, path, monkeypatch):
    monkeypatch.setattr(fetching, "LONGEST", 0.3)
    with pytest.raises(ImageError, match=r"took more than 0\.3 seconds"):
        fetch(Address(server + path))


def test_an_address_is_told_from_a_file():
    assert is_address("https://example.org/a.jpg")
    assert is_address("HTTP://example.org/a.jpg")
    assert not is_address("https.jpg")
    assert not is_address("file:///etc/passwd")
