"""What the page asks of the captioner, over HTTP: a picture's bytes in, captions and looks out; nothing is kept.

GET / and its style and script; GET /settings; POST /captions, whose body is an image file. Errors are JSON:
{"error": why}.
"""

import asyncio
import dataclasses
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import resources
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from captioner_jax.captioning import Captioner
from captioner_jax.config import STRICT, Positive, Seed, validated
from captioner_jax.data.images import ImageError
from captioner_jax.errors import UserError
from captioner_jax.fetching import LARGEST, MEBIBYTE
from captioner_jax.generation.settings import Generation
from captioner_jax.web.guard import CLOSE, Guard

FILES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
# Seconds for a picture to arrive in.
PATIENCE = 60
# The page shows up to so many captions, until it is told otherwise.
SHOWN = 5


@dataclass(frozen=True)
class Choice:
    """What people choose in the page; all else is as the command line says."""

    __pydantic_config__ = STRICT

    beam: Annotated[Positive, Le(100)]
    num_captions: Annotated[Positive, Le(100)]
    temperature: Annotated[float, Ge(1e-6), Le(100)] | None
    seed: Annotated[Seed, Le(2**53)]
    """As large as a browser's numbers are exact."""


def first_choice(asked: Generation) -> Choice:
    """What the page begins with: as many captions as there are beams, up to five.

    Raises UserError for what people could not choose in it.
    """
    count = asked.num_captions if asked.num_captions > 1 else min(SHOWN, asked.beam)
    chosen = {"beam": asked.beam, "num_captions": count, "temperature": asked.temperature, "seed": asked.seed}
    return validated(Choice, chosen, "--serve")


def make_app(captioner: Captioner, asked: Generation, name: str) -> Starlette:
    """The application, for whoever asks for it as `name`, as localhost, or by an address in numbers.

    The model answers one request at a time, in a thread of its own, and the others wait.
    """
    model = ThreadPoolExecutor(1)
    first = first_choice(asked)

    async def settings(_: Request) -> Response:
        return JSONResponse({"choice": dataclasses.asdict(first), "largest": LARGEST, "framing": captioner.framing})

    async def captions(request: Request) -> Response:
        choice = _choice(request.query_params, first)
        as_chosen = dataclasses.replace(asked, **dataclasses.asdict(choice))
        if not as_chosen.draws:  # a beam has no more captions than it is wide
            as_chosen = dataclasses.replace(as_chosen, num_captions=min(as_chosen.num_captions, as_chosen.beam))
        try:
            picture = await _picture(request)
            answer = asyncio.get_running_loop().run_in_executor(model, told, captioner, picture, as_chosen)
            said = await _while_wanted(answer, request)
        except asyncio.CancelledError as error:
            raise HTTPException(503, "the program has been ended", CLOSE) from error
        return Response(said, media_type="application/json")

    routes = [Route(path, _file(*file)) for path, file in FILES.items()]
    return Starlette(
        routes=[*routes, Route("/settings", settings), Route("/captions", captions, methods=["POST"])],
        middleware=[Middleware(Guard, name=name)],
        exception_handlers={HTTPException: _refused, ImageError: _unreadable, UserError: _impossible},
    )


def told(captioner: Captioner, picture: bytes, asked: Generation) -> bytes:
    """A picture's captions, the best first, and the best one token by token with its looks [L N T y x], as JSON.

    An ensemble has no looks. Raises ImageError for a picture of no use, and UserError for settings that cannot be had.
    """
    written = captioner.written(picture, asked)
    answer: dict[str, Any] = {"captions": [caption._asdict() for caption in written.captions], "looks": None}
    if len(captioner.bundles) == 1:
        explained = captioner.explained(written)
        answer["tokens"] = explained.tokens
        answer["probabilities"] = explained.probabilities.tolist()
        answer["looks"] = np.round(explained.looks.astype(float), 5).tolist()
    return json.dumps(answer).encode()


def _choice(query: Mapping[str, str], first: Choice) -> Choice:
    """From `?settings={...}`, which may leave out what stays as it is at first. Raises UserError."""
    if unknown := sorted(query.keys() - {"settings"}):
        raise UserError(f"nothing is known of {unknown[0]} in the address: what is chosen stands as ?settings={{JSON}}")
    try:
        settings = json.loads(query.get("settings", "{}"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"settings are JSON: {error}") from error
    if not isinstance(settings, dict):
        raise UserError(f"settings are an object, not {settings!r}")
    return validated(Choice, dataclasses.asdict(first) | settings, "settings")


async def _picture(request: Request) -> bytes:
    """The body, which is refused as soon as it is too much. Raises HTTPException."""
    kind = request.headers.get("content-type", "")
    if not kind.startswith("image/"):
        raise HTTPException(415, f"this is no picture: {kind or 'of no type'}")
    try:
        async with asyncio.timeout(PATIENCE):
            received = bytearray()
            _refuse_more(int(request.headers.get("content-length", 0)))
            async for piece in request.stream():
                _refuse_more(len(received) + len(piece))
                received += piece
            return bytes(received)
    except TimeoutError as error:
        raise HTTPException(408, f"the picture did not arrive within {PATIENCE} seconds", CLOSE) from error
    except ClientDisconnect as error:
        raise HTTPException(400, "the picture did not arrive") from error  # which nobody hears


async def _while_wanted(answer: asyncio.Future[bytes], request: Request) -> bytes:
    """The answer; none where whoever asks leaves before its turn has come, so that others wait for no such one."""
    leaving = asyncio.ensure_future(request.receive())  # after all that was sent, nothing comes but that
    try:
        await asyncio.wait((answer, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise HTTPException(400, "nobody waits for these captions")  # which nobody hears
        return answer.result()
    finally:
        leaving.cancel()
        answer.cancel()


def _refuse_more(size: int) -> None:
    if size > LARGEST:
        raise HTTPException(413, f"the file has more than {LARGEST // MEBIBYTE} MiB", CLOSE)


def _file(name: str, kind: str):
    """The endpoint of one file of this package."""
    content = resources.files("captioner_jax.web").joinpath(name).read_bytes()

    async def file(_: Request) -> Response:
        return Response(content, media_type=kind)

    return file


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _unreadable(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 422)


async def _impossible(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 400)
