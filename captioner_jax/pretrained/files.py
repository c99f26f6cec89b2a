"""Files of published weights: tensors under the names that they were published by."""

import errno
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors

from captioner_jax.errors import UserError, naming
from captioner_jax.pretrained.pth import PthError, read_pth

KINDS = (".safetensors", ".pth", ".pt", ".bin")
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""What the weights in a folder are called, those preferred first."""
CARDS = ("preprocessor_config.json", "processor_config.json", "config.json")
"""What files beside them may tell how pixels are to be normalised: of transformers, old and new, and of timm."""


class Weights(NamedTuple):
    """What a file of weights holds, and where it came from; `preprocessor` has `image_mean`, `image_std` and
    `do_center_crop`."""

    tensors: dict[str, np.ndarray]
    metadata: dict[str, str]
    origin: str
    preprocessor: dict[str, Any] | None


class Located(NamedTuple):
    """A file of weights, the folder of what was published with it, and where both came from."""

    file: Path
    folder: Path
    origin: str


def locate(where: str, cards: Sequence[str] = CARDS) -> Located:
    """What a file, a folder, or hf://OWNER/NAME[@REVISION][/FILE] means; of the hub, `cards` are fetched besides.

    Raises UserError where there is nothing, and where the hub does not give it.
    """
    if where.startswith("hf://"):
        return Located(*from_hub(where, WEIGHTS, cards))
    file = _find(where)
    return Located(file, file.parent, str(file))


def read_weights(where: str) -> Weights:
    """The weights that `locate` finds. Raises UserError alike, and where they are damaged or of another kind."""
    file, folder, origin = locate(where)
    is_told = where.startswith("hf://") or file.name in WEIGHTS  # of others nobody knows whose the card is
    return Weights(*contents(file), origin, preprocessor(folder) if is_told else None)


def _find(where: str) -> Path:
    """The file that a path of one, or of its folder, means."""
    path = Path(os.path.expanduser(where))  # noqa: PTH111, which leaves ~NAME of nobody as it is
    if not path.exists():
        raise UserError(f"{path}: {os.strerror(errno.ENOENT)}; weights are a file, its folder, or hf://OWNER/NAME")
    if not path.is_dir():
        return path
    file = next((path / name for name in WEIGHTS if (path / name).is_file()), None)
    if file is None:
        raise UserError(f"{path} holds no weights: wanted is {' or '.join(WEIGHTS)}; or name a file in it")
    return file


def from_hub(address: str, weights: Sequence[str], cards: Sequence[str]) -> tuple[Path, Path, str]:
    """What `hub.fetch` gives. Raises UserError also where its library is not installed."""
    try:
        from captioner_jax.pretrained import hub
    except ImportError as error:
        raise UserError(f"{address} wants a library: pip install 'captioner-jax[hub]'") from error
    return hub.fetch(address, weights, cards)


def contents(file: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors and metadata. Raises UserError where they cannot be read."""
    try:
        match file.suffix:
            case ".safetensors":
                return _read_safetensors(file)
            case ".pth" | ".pt" | ".bin":
                return read_pth(file), {}
    except PthError as error:
        raise UserError(f"{file}: {error}") from error
    except OSError as error:
        raise UserError(f"{file}: {error.strerror or error}") from error
    if file.name.endswith(".safetensors.index.json"):
        raise UserError(f"{file} lists weights in several files, which are not read: save them as one .safetensors")
    raise UserError(f"{file} is of no kind that holds weights: wanted are {', '.join(KINDS)}")


def _read_safetensors(file: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    try:
        with safetensors.safe_open(file, framework="numpy") as content:
            return {name: content.get_tensor(name) for name in content.keys()}, content.metadata() or {}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise UserError(f"{file} is damaged, or no .safetensors file: {error}. Get it once more") from error
    except AttributeError as error:  # of NumPy, which has no type for numbers of 8 bits and fewer
        raise UserError(f"{file} holds numbers of a type that is not read here: save them as float16") from error


def preprocessor(folder: Path) -> dict[str, Any] | None:
    """What the cards in a folder tell of normalisation, and whether pictures are cut to their middle."""
    for card in (folder / name for name in CARDS):
        told = read_json(card) if card.is_file() else {}
        inner = told.get("pretrained_cfg", told.get("image_processor"))
        told = inner if isinstance(inner, dict) else told
        crop = {"do_center_crop": told.get("do_center_crop") is True}
        if told.get("do_normalize") is False:
            return {"image_mean": [0.0, 0.0, 0.0], "image_std": [1.0, 1.0, 1.0]} | crop
        mean, deviation = (told.get(f"image_{key}", told.get(key)) for key in ("mean", "std"))
        if mean is not None and deviation is not None:
            return {"image_mean": mean, "image_std": deviation} | crop
    return None


def read_json(file: Path) -> dict[str, Any]:
    """Raises UserError where it cannot be read, or is no JSON object."""
    try:
        with naming(file):
            content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} is damaged: it is no JSON object")
    return content
