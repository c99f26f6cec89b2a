"""`sample.py --serve`, from its first word to Ctrl-C."""

import contextlib
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import sample
from captioner_jax.captioning import Captioner
from captioner_jax.errors import UserError
from captioner_jax.generation.settings import Generation
from captioner_jax.web import serving
from tests.data.making import encoded, picture
from tests.making import untrained
from tests.web.serving import ask, send, served

ROOT = Path(__file__).parent.parent.parent


class Stopped:
    """Stands for a server that is ended by Ctrl-C."""

    def run(self, listeners):
        assert listeners[0].getsockname()[1]
        raise KeyboardInterrupt


@pytest.fixture
def told(monkeypatch):
    """How the captioner was warmed up, when nothing more is done."""
    asked = []
    monkeypatch.setattr(serving, "told", lambda captioner, picture, settings: asked.append((picture, settings)))
    monkeypatch.setattr(serving, "make_server", lambda app: Stopped())
    return asked


@pytest.mark.slow
def test_it_answers_until_ctrl_c(tmp_path):
    untrained().save(tmp_path / "captioner")
    arguments = ["--serve", "--port", "0", "--captioner", str(tmp_path / "captioner"), "--beam", "3"]
    command = [sys.executable, str(ROOT / "sample.py"), *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        line = program.stderr.readline()
        port = int(re.fullmatch(r"captions at http://127\.0\.0\.1:(\d+)/ ; Ctrl-C ends it\n", line)[1])
        status, said = send(port, encoded(picture()), {})
        with socket.create_connection(("127.0.0.1", port)) as sender:  # who would never come to an end
            sender.sendall(b"POST /captions HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n")
            sender.sendall(b"Content-Length: 9\r\n\r\n")
            program.send_signal(signal.SIGINT)
            out, err = program.communicate(timeout=30)
            assert sender.recv(100).startswith(b"HTTP/1.1 503 ")
    assert (status, len(said["captions"])) == (200, 3)
    assert (program.returncode, out) == (0, "")
    assert err == "ERROR:    Cancel 1 running task(s), timeout graceful shutdown exceeded\n"


def test_the_first_picture_waits_for_no_compiler(told):
    serving.serve(Captioner(untrained()), Generation(beam=3, prefix="a"), "127.0.0.1", 0)
    ((picture, settings),) = told
    assert picture.startswith(b"\x89PNG")
    assert settings == Generation(beam=3, prefix="a", num_captions=3)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Generation(beam=101), "--serve: beam = 101: input should be less than or equal to 100"),
        (Generation(seed=2**53 + 1), "--serve: seed = 9007199254740993: input should be less"),
    ],
)
def test_what_nobody_could_choose_in_the_page_is_refused(asked, message, told):
    with pytest.raises(UserError, match=re.escape(message)):
        serving.serve(Captioner(untrained()), asked, "127.0.0.1", 0)
    assert not told


def test_whoever_asks_for_nothing_is_left(monkeypatch):
    monkeypatch.setattr(serving, "SILENCE", 0.2)
    with served(Captioner(untrained())) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=30) as silent:
            assert silent.recv(1) == b""
        assert ask(port)[0] == 200


def test_whoever_asks_for_nothing_more_is_left_and_who_waits_is_not(monkeypatch):
    """Though a byte of a second request comes now and then."""
    monkeypatch.setattr(serving, "SILENCE", 0.3)
    answer = serving.told
    monkeypatch.setattr("captioner_jax.web.app.told", lambda *about: time.sleep(1.5) or answer(*about))
    with served(Captioner(untrained())) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=30) as first:
            first.sendall(b"GET /settings HTTP/1.1\r\nHost: localhost\r\n\r\nGET /")
            first.settimeout(0.1)
            until, received = time.monotonic() + 10, []
            while not received or received[-1] != b"":
                assert time.monotonic() < until
                with contextlib.suppress(TimeoutError):
                    received.append(first.recv(2**16))
                with contextlib.suppress(OSError):
                    first.sendall(b"s")
        assert received[0].startswith(b"HTTP/1.1 200")
        assert send(port, encoded(picture()))[0] == 200


@pytest.mark.parametrize(
    ("host", "address", "warned"),
    [
        ("127.0.0.1", "127.0.0.1", False),
        ("localhost", "localhost", False),
        ("0.0.0.0", "0.0.0.0", True),
    ],
)
def test_other_machines_are_warned_of(host, address, warned, told, capsys):
    serving.serve(Captioner(untrained()), Generation(), host, 0)
    err = capsys.readouterr().err
    assert f"captions at http://{address}:" in err
    assert (f"warning: --host {host}: whoever reaches this machine can use the page" in err) == warned


@pytest.mark.parametrize(
    ("host", "port", "message"),
    [
        ("127.0.0.1", None, "Address already in use"),
        ("no.such.host.invalid", 0, "--host no.such.host.invalid --port 0: "),
        ("127.0.0..1", 0, "--host 127.0.0..1 --port 0: "),
        ("127.0.0.1", 70_000, "--port 70000: "),
        ("127.0.0.1", -1, "--port -1: "),
    ],
)
def test_where_it_cannot_listen_it_says_so(host, port, message):
    with serving.listen("127.0.0.1", 0) as taken, pytest.raises(UserError, match=re.escape(message)):
        serving.listen(host, taken.getsockname()[1] if port is None else port)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_it_ends_with_its_terminal(number):
    program = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)\nimport runpy, sys\n"
    program += "sys.argv = ['sample.py', '--serve', '--port', '0']; runpy.run_path('sample.py', run_name='__main__')"
    serving = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    with serving:
        assert "captions at" in serving.stderr.readline()
        serving.send_signal(number)
        assert serving.wait(30) != 0


def test_what_it_cannot_do_without_is_said(monkeypatch, capsys):
    monkeypatch.setattr(sample.Captioner, "load", lambda *_, **__: Captioner(untrained()))
    monkeypatch.setitem(sys.modules, "captioner_jax.web", None)
    assert sample.main(["--serve", "--captioner", "any"]) == 1
    assert "pip install 'captioner-jax[serve]'" in capsys.readouterr().err


BUSY = """
import sys, time
import sample
from captioner_jax.captioning import Captioner

written, asked = Captioner.written, []

def slow(captioner, picture, settings):
    asked.append(picture)
    if len(asked) > 1:  # the first is to warm up
        print("busy", flush=True)
        time.sleep(300)
    return written(captioner, picture, settings)

Captioner.written = slow
sys.exit(sample.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_ctrl_c_waits_for_no_caption(tmp_path):
    untrained().save(tmp_path / "captioner")
    command = [sys.executable, "-c", BUSY, "--serve", "--port", "0", "--captioner", str(tmp_path / "captioner")]
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as program, ThreadPoolExecutor(1) as sender:
        port = int(re.search(r":(\d+)/", program.stderr.readline())[1])
        answer = sender.submit(send, port, encoded(picture()), {})
        assert program.stdout.readline() == "busy\n"
        program.send_signal(signal.SIGINT)
        program.communicate(timeout=60)
        assert answer.result()[0] == 503
    assert program.returncode == 0


def test_more_connections_than_there_is_room_for_are_sent_away(monkeypatch):
    monkeypatch.setattr(serving, "CONNECTIONS", 2)
    with served(Captioner(untrained())) as port, contextlib.ExitStack() as lines:
        for _ in range(4):
            lines.enter_context(contextlib.closing(socket.create_connection(("127.0.0.1", port))))
        assert ask(port)[0] == 503


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_it_listens_by_ipv6_too(told, capsys):
    serving.serve(Captioner(untrained()), Generation(), "::1", 0)
    err = capsys.readouterr().err
    assert "captions at http://[::1]:" in err
    assert "warning" not in err


@pytest.mark.parametrize(("more", "where"), [([], ("127.0.0.1", 8000)), (["--port", "0", "--host", "::1"], ("::1", 0))])
def test_it_listens_where_it_is_asked_to(monkeypatch, more, where):
    class ServedError(Exception):
        """In place of serving on and on."""

    def serve(_, settings, *place):
        raise ServedError(place)

    monkeypatch.setattr(serving, "serve", serve)
    monkeypatch.setattr(sample.Captioner, "load", lambda *_, **__: Captioner(untrained()))
    with pytest.raises(ServedError) as ended:
        sample.main(["--serve", *more])
    assert ended.value.args == (where,)
