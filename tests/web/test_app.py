"""What the page's server answers, and what it refuses; by sockets, as browsers and others ask."""

import contextlib
import json
import logging
import socket
import threading
import time
import zlib

import numpy as np
import pytest

from captioner_jax.captioning import Caption, Captioner, Written
from captioner_jax.generation.settings import Generation
from captioner_jax.web import app
from tests.data.making import encoded, picture
from tests.making import untrained
from tests.web.serving import NAME, SETTINGS, ask, send, served

PNG = encoded(picture())
QUERY = "/captions?settings=%7B%22beam%22:3,%22num_captions%22:2,%22temperature%22:null,%22seed%22:0%7D"


class Patient(Captioner):
    """Captions when it is let; counts how many it captions at a time. An ensemble, by its bundles."""

    def __init__(self):
        self.bundles = ("one", "another")
        self.let = threading.Event()
        self.now = self.most = self.all = 0

    def written(self, picture, asked):
        self.now += 1
        self.all += 1
        self.most = max(self.most, self.now)
        assert self.let.wait(30)
        time.sleep(0.01)
        self.now -= 1
        return Written(np.zeros((1, 8, 8, 3), np.uint8), np.zeros(3, np.int32), [], [Caption("a dog", -1.0, -2.0)])


@pytest.fixture(scope="module")
def captioner():
    return Captioner(untrained())


@pytest.fixture(scope="module")
def port(captioner):
    with served(captioner, Generation(length_alpha=1.0)) as port:
        yield port


def of_size(side):
    """A PNG that says it has so many pixels a side, and holds none of them."""
    chunk = lambda kind, data: len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)
    header = side.to_bytes(4) + side.to_bytes(4) + bytes([8, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_a_picture_gets_what_the_captioner_says_and_where_it_looked(captioner, port):
    status, answer = send(port, PNG)
    assert status == 200
    (captions,) = captioner.captions([PNG], beam=3, num_captions=2, length_alpha=1.0)
    assert answer["captions"] == [caption._asdict() for caption in captions]
    explained = captioner.explain(PNG, beam=3, length_alpha=1.0)
    assert answer["tokens"] == explained.tokens
    np.testing.assert_allclose(answer["probabilities"], explained.probabilities)
    np.testing.assert_allclose(answer["looks"], explained.looks, atol=1e-5)


def test_a_program_may_ask_for_what_the_page_begins_with(captioner, port):
    status, _, content = ask(port, "POST", "/captions", PNG, content_type="image/png")
    assert status == 200
    (captions,) = captioner.captions([PNG], num_captions=5, length_alpha=1.0)
    assert json.loads(content)["captions"] == [caption._asdict() for caption in captions]


def test_the_page_begins_with_what_the_command_line_says(port):
    said = json.loads(ask(port, path="/settings")[2])
    choice = {"beam": 5, "num_captions": 5, "temperature": None, "seed": 0}
    assert said == {"choice": choice, "largest": app.LARGEST, "framing": "middle"}
    assert app.first_choice(Generation(beam=2)).num_captions == 2
    assert app.first_choice(Generation(num_captions=3, temperature=0.5, seed=7)) == app.Choice(5, 3, 0.5, 7)


@pytest.mark.parametrize("path", ["/", "/page.css", "/page.js", "/settings", "/captions", "/none"])
def test_a_browser_is_told_to_ask_nobody_else(path, port):
    _, headers, content = ask(port, path=path)
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy.pop("default-src") == "'none'"
    sources = {source for sources in policy.values() for source in sources.split()}
    assert sources == {"'self'", "'none'", "blob:", "data:"}
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Cache-Control"] == "no-store"
    assert "Access-Control-Allow-Origin" not in headers
    assert b"http" not in content  # no address of anybody's


@pytest.mark.parametrize(
    "path",
    [
        *("/page.html", "/app.py", "/../guard.py", "/%2e%2e/guard.py", "/page.css/../app.py", "/..%2f..%2fbundle.py"),
        *("//etc/passwd", "/etc/passwd", "/./page.css", "/page.css%00", "/captions/../page.css", "*"),
    ],
)
def test_there_are_no_other_files(path, port):
    status, _, content = ask(port, path=path)
    assert (status, content) == (404, b'{"error":"Not Found"}')


@pytest.mark.parametrize(
    ("body", "content_type", "status", "message"),
    [
        (PNG, "text/plain", 415, "this is no picture: text/plain"),
        (PNG, "multipart/form-data; boundary=x", 415, "this is no picture"),
        (PNG, "", 415, "this is no picture: of no type"),
        (b"", "image/png", 422, "the file is empty"),
        (b"GIF but not really", "image/gif", 422, "not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml", 422, "not an image"),
        (PNG[: len(PNG) // 2], "image/png", 422, "the image is damaged"),
        (of_size(50_000), "image/png", 422, "more than 179 million pixels"),
    ],
)
def test_what_is_no_picture_is_refused(body, content_type, status, message, port):
    answered, said = send(port, body, content_type=content_type)
    assert answered == status
    assert message in said["error"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({**SETTINGS, "beam": 0}, "beam = 0: input should be greater than 0"),
        ({**SETTINGS, "beam": 10**9}, "beam = 1000000000: input should be less than or equal to 100"),
        ({**SETTINGS, "temperature": "hot"}, "temperature = 'hot'"),
        ({**SETTINGS, "bean": 3}, "unknown key bean; did you mean beam?"),
        ({**SETTINGS, "banned": ["dog"]}, "unknown key banned"),
        ([1], "settings are an object, not [1]"),
        (None, "settings are an object, not None"),
    ],
)
def test_settings_that_cannot_be_had_are_refused(settings, message, port):
    status, said = send(port, PNG, settings)
    assert status == 400
    assert message in said["error"]


def test_a_beam_that_is_narrower_than_captions_are_wanted_has_as_many_as_it_is_wide(port):
    status, said = send(port, PNG, {**SETTINGS, "beam": 2, "num_captions": 4})
    assert status == 200
    assert 1 <= len(said["captions"]) <= 2


def test_settings_that_are_no_json_are_refused(port):
    for query in ("?settings=", "?settings=%7B", "?settings=beam", "?settings=" + 9999 * "["):
        status, _, content = ask(port, "POST", f"/captions{query}", PNG, content_type="image/png")
        assert status == 400
        assert "settings are JSON" in json.loads(content)["error"]


@pytest.mark.parametrize(("method", "path"), [("GET", QUERY), ("PUT", QUERY), ("POST", "/"), ("DELETE", "/page.js")])
def test_other_methods_are_refused(method, path, port):
    status, _, content = ask(port, method, path)
    assert (status, content) == (405, b'{"error":"Method Not Allowed"}')


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}])
def test_strangers_are_refused_before_they_are_read(headers, port):
    for method, path in (("GET", "/"), ("GET", "/settings"), ("POST", QUERY)):
        status, told, content = ask(port, method, path, PNG, content_type="image/png", **headers)
        assert status == 403
        assert json.loads(content)["error"]
        assert told["Content-Security-Policy"]
    assert send(port, PNG, Host=NAME, Origin=f"http://{NAME}")[0] == 200


def test_what_says_that_it_is_too_much_is_not_waited_for(port):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
        length = app.LARGEST + 1
        line.sendall(f"POST {QUERY} HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n".encode())
        line.sendall(f"Content-Length: {length}\r\n\r\n".encode())
        assert line.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_what_turns_out_to_be_too_much_is_cut_off(port, monkeypatch):
    monkeypatch.setattr(app, "LARGEST", 2**20)
    sent = 0
    with socket.create_connection(("127.0.0.1", port), timeout=10) as line, contextlib.suppress(ConnectionError):
        line.sendall(f"POST {QUERY} HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n".encode())
        line.sendall(b"Transfer-Encoding: chunked\r\n\r\n")
        while sent < 2**30:
            line.sendall(b"10000\r\n" + bytes(2**16) + b"\r\n")
            sent += 2**16
    assert 2**20 <= sent < 2**26  # with what was on the way


def test_what_does_not_arrive_is_not_waited_for(port, monkeypatch):
    monkeypatch.setattr(app, "PATIENCE", 0.05)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
        line.sendall(f"POST {QUERY} HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n".encode())
        line.sendall(b"Content-Length: 1000\r\n\r\nsome")
        assert line.recv(1000).startswith(b"HTTP/1.1 408 ")


def test_whoever_leaves_is_no_error(port, caplog):
    with caplog.at_level(logging.INFO), socket.create_connection(("127.0.0.1", port), timeout=10) as line:
        line.sendall(f"POST {QUERY} HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n".encode())
        line.sendall(b"Content-Length: 1000\r\n\r\nsome")
    assert send(port, PNG)[0] == 200
    assert "Exception" not in caplog.text


def test_pictures_wait_for_each_other_and_the_page_for_none():
    patient, answers = Patient(), []
    with served(patient) as port:
        askers = [threading.Thread(target=lambda: answers.append(send(port, PNG))) for _ in range(4)]
        for asker in askers:
            asker.start()
        while not patient.now:
            time.sleep(0.01)
        assert ask(port)[0] == 200
        assert not answers
        patient.let.set()
        for asker in askers:
            asker.join()
    assert patient.most == 1
    said = {"captions": [{"text": "a dog", "score": -1.0, "log_p": -2.0}], "looks": None}
    assert answers == [(200, said)] * 4


def test_nobody_waits_for_captions_that_nobody_waits_for():
    patient = Patient()
    with served(patient) as port:
        first = threading.Thread(target=send, args=(port, PNG))
        first.start()
        wait_until(lambda: patient.all == 1)
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", port)) as leaver:
                leaver.sendall(f"POST {QUERY} HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n".encode())
                leaver.sendall(f"Content-Length: {len(PNG)}\r\n\r\n".encode() + PNG)
                time.sleep(0.1)  # so that it has asked before it leaves
        time.sleep(0.1)
        patient.let.set()
        first.join()
        assert send(port, PNG)[0] == 200
    assert patient.all == 2


def test_a_picture_is_searched_once(captioner, port, monkeypatch):
    searched = []
    compiled = captioner._compiled
    monkeypatch.setattr(captioner, "_compiled", lambda asked: searched.append(asked) or compiled(asked))
    assert send(port, PNG)[0] == 200
    assert len(searched) == 1


def wait_until(is_so):
    for _ in range(300):
        if is_so():
            return
        time.sleep(0.01)
    raise TimeoutError


def test_no_other_page_may_show_this_one(port):
    _, headers, _ = ask(port)
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert {policy[name] for name in ("frame-ancestors", "base-uri", "form-action")} == {"'none'"}
