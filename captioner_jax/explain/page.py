"""One page that holds a picture, its caption and all that was asked about it, and needs nothing else to be explored.

What comes from outside, the name and the words, is in it as JSON alone, in which no character can end the script
element; explorer.js reads it, and makes text of it, never markup. The content security policy allows the page's own
script and style, by their hash, images that are in it, and nothing from anywhere.
"""

import base64
import hashlib
import io
import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped
from PIL import Image

from captioner_jax.config import Framing
from captioner_jax.data.images import seen_of
from captioner_jax.explain.explained import Explained, Grounds
from captioner_jax.explain.tree import Branch

# Pixels of the picture's longer side in the page.
PICTURE = 800
# Numbers that maps may have together, a byte each, so that the page stays under 2 MB.
ROOM = 1_000_000


def make_page(
    picture: Image.Image, name: str, told: Explained, grounds: Grounds, tree: Sequence[Branch], framing: Framing
) -> str:
    """The page as HTML. Where maps are many and large, their cells are put together by fours."""
    looks = told.looks
    maps = {"rollout": grounds.rollout, "gradient": grounds.gradient, "occlusion": grounds.occlusion}
    while looks.size > ROOM:
        looks, maps = _coarser(looks), {name: _coarser(map_) for name, map_ in maps.items()}
    seen = np.reshape(seen_of(*picture.size, framing), (2, 2)) / picture.size
    data = {
        "name": name,
        "caption": told.caption.text,
        "image": _embedded(picture),
        "seen": seen.ravel().tolist(),
        "grid": looks.shape[-2:],
        "layers": looks.shape[0],
        "heads": looks.shape[1],
        "tokens": [
            {"text": token, "p": _short(p), "alternatives": [[other, _short(likely)] for other, likely in considered]}
            for token, p, considered in zip(told.tokens, told.probabilities, told.alternatives, strict=True)
        ],
        "looks": _packed(looks.reshape(-1, *looks.shape[-2:])),
        "back": _packed(told.looks_back.reshape(-1, 1, len(told.tokens))),
        "grounds": {name: _packed(map_) for name, map_ in maps.items()},
        "tree": [{**branch._asdict(), "log_p": _short(branch.log_p)} for branch in tree],
    }
    return _filled(data)


def _filled(data: dict[str, Any]) -> str:
    style, script = _part("explorer.css"), _part("explorer.js")
    allowed = [
        "default-src 'none'",
        "img-src data:",
        f"style-src '{_hash(style)}'",
        f"script-src '{_hash(script)}'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    parts = {"policy": "; ".join(allowed), "style": style, "script": script, "data": _harmless(json.dumps(data))}
    page = _part("explorer.html")
    for place, content in parts.items():  # data last, since it may hold what looks like a place
        page = page.replace("{{" + place + "}}", content)
    return page


def _part(name: str) -> str:
    return resources.files("captioner_jax.explain").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _harmless(text: str) -> str:
    """JSON that is the same to who reads it, and in which HTML finds no tag, comment or entity."""
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _embedded(picture: Image.Image) -> str:
    picture = picture.convert("RGB")
    picture.thumbnail((PICTURE, PICTURE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _packed(maps: Float[np.ndarray, "M y x"]) -> dict[str, Any]:
    """Each value as a byte, in 255ths of its map's largest; what is negative as zero."""
    maps = np.maximum(maps, 0)
    peaks = maps.max((1, 2))
    shares = maps / np.maximum(peaks, np.finfo(maps.dtype).tiny)[:, None, None]
    packed = (255 * shares).round().astype(np.uint8).tobytes()
    return {"bytes": base64.b64encode(packed).decode(), "peaks": [_short(peak) for peak in peaks]}


def _coarser(maps: Float[np.ndarray, "*M y x"]) -> Float[np.ndarray, "*M v u"]:
    """Sums over 2 x 2 cells; at the edges of odd grids, of fewer."""
    y, x = maps.shape[-2:]
    padded = np.pad(maps, [(0, 0)] * (maps.ndim - 2) + [(0, y % 2), (0, x % 2)])
    return padded.reshape(*maps.shape[:-2], (y + 1) // 2, 2, (x + 1) // 2, 2).sum((-3, -1))


def _short(value: Shaped[np.ndarray, ""] | np.floating | float) -> float:
    return float(f"{float(value):.4g}")
