"""Small files of real formats, for the tests of what reads them."""

import io
import json
import os
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"red": (200, 30, 30), "green": (30, 160, 60), "blue": (40, 60, 200)}


def picture(colour=(200, 30, 30), size=(24, 20), mode="RGB"):
    return Image.new("RGB", size, colour).convert(mode)


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def close(folder, monkeypatch):
    """As if nobody may look into it, which root might all the same."""
    access, iterdir = os.access, Path.iterdir

    def of_others(self):
        if self == folder:
            raise PermissionError(13, "Permission denied", str(folder))
        return iterdir(self)

    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != folder and access(path, mode))
    monkeypatch.setattr(Path, "iterdir", of_others)


def colour_folder(path, images=30):
    """A folder of plainly coloured photographs, two captions each, that a tiny model can learn by heart."""
    path.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    lines = []
    for i in range(images):
        name = list(COLOURS)[i % 3]
        colour = np.clip(np.asarray(COLOURS[name]) + rng.integers(-20, 20, 3), 0, 255)
        (path / f"{i:03}.jpg").write_bytes(encoded(picture(tuple(map(int, colour))), "JPEG"))
        lines += [{"image": f"{i:03}.jpg", "caption": c} for c in (f"a {name} wall", f"the wall is {name}")]
    (path / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path
