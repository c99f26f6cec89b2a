"""The page's server: where it listens, what it says to the person who started it, how it ends."""

import contextlib
import dataclasses
import io
import ipaddress
import signal
import socket
import sys
from typing import Any

import uvicorn
from PIL import Image
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from captioner_jax.captioning import Captioner
from captioner_jax.errors import UserError
from captioner_jax.generation.settings import Generation
from captioner_jax.web.app import first_choice, make_app, told

# The page takes nothing from elsewhere and sends nothing elsewhere, and no other page can show it or read from it.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
# Connections at a time, each of which may hold a picture in memory.
CONNECTIONS = 32
# Seconds for somebody who has connected to ask for something.
SILENCE = 20
# Seconds for answers under way when it is to end.
LAST_ANSWERS = 3


def serve(captioner: Captioner, asked: Generation, host: str, port: int) -> None:
    """Serves the page until Ctrl-C. Raises UserError where it cannot, or where `asked` cannot be had."""
    listener = listen(host, port)
    with listener, contextlib.suppress(KeyboardInterrupt):
        address, port = listener.getsockname()[:2]
        if not ipaddress.ip_address(address).is_loopback:
            print(
                f"warning: --host {host}: whoever reaches this machine can use the page, without a password, and what "
                "is sent to it can be read on the way",
                file=sys.stderr,
            )
        warm_up(captioner, asked)
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            signal.signal(signal.SIGHUP, signal.SIG_DFL)  # there is nothing to clear away, and loops go on after errors
        shown = f"[{host}]" if ":" in host else host
        print(f"captions at http://{shown}:{port}/ ; Ctrl-C ends it", file=sys.stderr, flush=True)
        make_server(make_app(captioner, asked, host)).run([listener])


def listen(host: str, port: int) -> socket.socket:
    """Waits for connections; at port 0, where there is a free one. Raises UserError where it cannot."""
    if not 0 <= port <= 65_535:
        raise UserError(f"--port {port}: ports are 1 to 65535, or 0 for a free one")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, UnicodeError) as error:  # the latter for names with an empty part
        why = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"--host {host} --port {port}: {why}") from error


def warm_up(captioner: Captioner, asked: Generation) -> None:
    """Compiles what the first picture would wait for."""
    grey = io.BytesIO()
    Image.new("RGB", (8, 8), "grey").save(grey, "PNG")
    told(captioner, grey.getvalue(), dataclasses.replace(asked, **dataclasses.asdict(first_choice(asked))))


class Impatient(H11Protocol):
    """Leaves those who ask for nothing, or for nothing more, or others would find no connection free."""

    seen: object = None
    """The request that was seen at the last look."""

    def connection_made(self, transport: Any) -> None:  # asyncio's, or another loop's
        super().connection_made(transport)
        self.loop.call_later(SILENCE, self._leave_the_silent)

    def _leave_the_silent(self) -> None:
        is_answered = self.cycle is None or self.cycle.response_complete
        if is_answered and self.cycle is self.seen:
            self.transport.close()
        elif not self.transport.is_closing():
            self.seen = self.cycle
            self.loop.call_later(SILENCE, self._leave_the_silent)


def make_server(app: ASGIApp) -> uvicorn.Server:
    """HTTP alone, without a log of requests."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=Impatient,
            ws="none",
            lifespan="off",
            log_level="warning",
            headers=list(HEADERS.items()),
            server_header=False,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=LAST_ANSWERS,
        )
    )
