"""What a run has written to its disk, as an array: so a checkpoint can hold it, and it survives that disk."""

import io
import tarfile
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

KEPT = ("captioner", "metrics.jsonl", "tensorboard")
TRACES = "tensorboard/plugins"  # large, and of no use to a run that goes on


def packed(folder: Path) -> UInt8[np.ndarray, " size"]:
    """The bytes of a tar with the captioner, metrics and TensorBoard's events that a run's folder has."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name in KEPT:
            if (folder / name).exists():
                tar.add(folder / name, name, filter=lambda member: None if member.name == TRACES else member)
    return np.frombuffer(content.getbuffer(), np.uint8)


def unpack(archive: UInt8[np.ndarray, " size"], folder: Path) -> None:
    """The files as they were, in the place of those of the same names."""
    with tarfile.open(fileobj=io.BytesIO(archive.tobytes())) as tar:
        tar.extractall(folder, filter="data")
