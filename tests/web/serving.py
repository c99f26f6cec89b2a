"""The page's server on a free port of loopback, for the tests of what it answers."""

import contextlib
import http.client
import json
import threading
import time
import urllib.parse

from captioner_jax.generation.settings import Generation
from captioner_jax.web.app import make_app
from captioner_jax.web.serving import listen, make_server

NAME = "studio.local"
DEFAULT = Generation()
SETTINGS = {"beam": 3, "num_captions": 2, "temperature": None, "seed": 0}


@contextlib.contextmanager
def served(captioner, asked=DEFAULT):
    """Serves, and gives the port."""
    server = make_server(make_app(captioner, asked, NAME))
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield port
        finally:
            server.should_exit = True
            thread.join()


def ask(port, method="GET", path="/", body=None, **headers):
    """A request's answer: its status, headers, and content."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


def send(port, picture, settings=SETTINGS, content_type="image/png", **headers):
    """A picture's answer: its status and the JSON."""
    path = f"/captions?settings={urllib.parse.quote(json.dumps(settings))}"
    status, _, content = ask(port, "POST", path, picture, content_type=content_type, **headers)
    return status, json.loads(content)
