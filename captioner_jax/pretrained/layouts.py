"""Tensors of published Transformers in the layouts of ours, where PyTorch keeps matrices as [out in]."""

import re
from collections.abc import Sequence

import numpy as np

# Theirs, as a pattern, and ours, in which \1 is the first group of it. What is fused there is called qkv here, or kv.
Places = Sequence[tuple[str, str]]
# What is one parameter, without a name of its own within a module.
_ALONE = ("class_token", "positions", "embed.embedding", "output", "bias")


def placed(name: str, tensor: np.ndarray, places: Places, heads: int) -> dict[str, np.ndarray]:
    """A tensor under our dotted name; where q, k and v are fused, the three.

    What is of no known name, or too odd a shape, comes back as it is.
    """
    place = _place(name, places)
    try:
        return _laid_out(place, tensor, heads) if place else {name: tensor}
    except (ValueError, IndexError):  # it does not divide into heads, or has another number of axes
        return {name: tensor}


def _place(name: str, places: Places) -> str | None:
    for pattern, ours in places:
        if match := re.fullmatch(pattern, name):
            return re.sub(r"\\(\d)", lambda number: match[int(number[1])] or "", ours)
    return None


def _laid_out(place: str, tensor: np.ndarray, heads: int) -> dict[str, np.ndarray]:
    """Raises ValueError for an odd shape."""
    module, _, parameter = place.rpartition(".")
    *above, last = module.split(".")
    if place in _ALONE:
        is_row = place in ("class_token", "bias")
        return {place: tensor.reshape(tensor.shape[-1:] if is_row else tensor.shape[-2:])}
    if above and above[-1].endswith("attention"):
        parts, inside = np.split(tensor, len(last)), ".".join(above)
        return dict(_projection(inside, name, part, heads) for name, part in zip(last, parts, strict=True))
    if "norm" in last:
        return {f"{module}.{'scale' if parameter == 'weight' else 'bias'}": tensor}
    if parameter == "bias":
        return {f"{module}.bias": tensor}
    if tensor.ndim == 4:  # [D 3 y x] -> [y x 3 D], a patch's pixels in a row
        tensor = tensor.transpose(0, 2, 3, 1).reshape(len(tensor), -1)
    return {f"{module}.kernel": tensor.transpose()}


def _projection(module: str, name: str, tensor: np.ndarray, heads: int) -> tuple[str, np.ndarray]:
    """[out in] to [D N H]; into the output, [out in] to [N H D]. Of biases [N H], and [D]."""
    if tensor.ndim == 1:
        return f"{module}.bias.{name}", tensor if name == "o" else tensor.reshape(heads, -1)
    turned = tensor.transpose()
    rows, columns = turned.shape
    shape = (heads, rows // heads, columns) if name == "o" else (rows, heads, columns // heads)
    return f"{module}.w_{name}", turned.reshape(shape)
