"""Weights made of nothing but their names and shapes, here and in other programs alike; and what to compare."""

import math
import zlib

import numpy as np


def made(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A parameter of a classic network, by its name in a published file: of a size at which signals keep theirs."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith(("running_var", "num_batches_tracked")):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    if len(shape) <= 1:  # biases, running means; scales, which lie about 1
        about = 1.0 if _is_scale(name) else 0.0
        return (about + 0.1 * rng.standard_normal(shape)).astype(np.float32)
    spread = math.sqrt(2 / math.prod(shape[1:])) if len(shape) == 4 else math.sqrt(1 / shape[-1])
    return (spread * rng.standard_normal(shape)).astype(np.float32)


def _is_scale(name: str) -> bool:
    *_, module, parameter = ("", *name.split("."))
    return parameter == "weight" and not module.startswith(("conv", "proj", "fc", "linear"))


def images(size: int) -> np.ndarray:
    """Two images [2 Y X 3], normalised."""
    return np.random.default_rng(0).standard_normal((2, size, size, 3)).astype(np.float32)


def digest(cells: np.ndarray) -> dict[str, object]:
    """What is kept of a stage's cells [B y x C]: shape, mean, root of the mean square, and 24 values."""
    flat = np.asarray(cells, np.float64).ravel()
    some = flat[np.random.default_rng(1).integers(0, len(flat), 24)]
    return {
        "shape": list(cells.shape),
        "mean": float(flat.mean()),
        "size": float(np.sqrt((flat**2).mean())),
        "values": [float(f"{value:.7g}") for value in some],
    }
