"""Who may ask: this machine's own page, and programs; no page of anybody else's that a browser here has open."""

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

# With an answer that does not wait for all that is sent: the rest is not read.
CLOSE = {"Connection": "close"}


class Guard:
    """Refuses what `stranger` tells of, before anything is read of it."""

    def __init__(self, app: ASGIApp, name: str):
        """`name` is the one that the page is asked for at, beside localhost."""
        self.app = app
        self.name = name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        refused = stranger(headers.get("host", ""), headers.get("origin"), self.name)
        answer = self.app if refused is None else JSONResponse({"error": refused}, 403, CLOSE)
        await answer(scope, receive, send)


def stranger(host: str, origin: str | None, name: str) -> str | None:
    """Why a request with these headers is refused, or None.

    A page elsewhere can have its own name lead to this machine (DNS rebinding), and shows by Host; or can send here
    from where it is, and shows by Origin, which browsers send with all that does more than read.
    """
    if not _is_own(host, name):
        where = host or "a place without a name"
        return (
            f"this page is not at {where}: ask by an address in numbers, by localhost, or by the name that --host has"
        )
    if origin not in (None, f"http://{host}", f"https://{host}"):
        return f"pages of {origin} may not ask here"
    return None


def _is_own(host: str, name: str) -> bool:
    """Can a Host not be a stranger's? An address in numbers is nobody's name, and leads nowhere else."""
    try:
        parts = urlsplit(f"//{host}")
        if parts.netloc != host or parts.username is not None:
            return False
        return parts.hostname in ("localhost", name.lower()) or bool(ipaddress.ip_address(parts.hostname or ""))
    except ValueError:
        return False
