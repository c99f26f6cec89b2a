"""Captions pictures by an export of captioner_jax, without it: needs jax, flatbuffers, numpy, pillow and tokenizers.

python caption.py PICTURE ...
"""

import json
import sys
import zlib
from pathlib import Path

import jax
import numpy as np
import tokenizers
from jax import export
from PIL import Image, ImageOps

HERE = Path(__file__).parent


def square(path: str, size: int) -> np.ndarray:
    """What the model sees of a picture: the middle of it, uint8[Y X 3]."""
    image = Image.open(path)
    image.draft("RGB", (2 * size, 2 * size))  # JPEGs are faster to read at a reduced size
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.BICUBIC))


def main(paths: list[str]) -> None:
    """Prints the captions of each picture, the best first."""
    manifest = json.loads((HERE / "export.json").read_text(encoding="utf-8"))
    tokenizer = tokenizers.Tokenizer.from_file(str(HERE / "tokenizer.json"))
    encode, search = (
        jax.jit(export.deserialize(bytearray((HERE / f"{name}.stablehlo").read_bytes())).call)
        for name in ("encode", "search")
    )
    for path in paths:
        pixels = square(path, manifest["image_size"])[None]
        numbers = np.array([zlib.crc32(pixels.tobytes())], np.uint32)
        tokens, log_p, scores = map(np.asarray, search(encode(pixels), numbers))
        for ids, p, score in zip(tokens[0].tolist(), log_p[0], scores[0], strict=True):
            if np.isfinite(score):  # minus infinity: constraints leave no such caption
                ids = ids[: ids.index(manifest["end"])] if manifest["end"] in ids else ids
                print(f"{path}: {tokenizer.decode(ids)} ({p:.4f})")


if __name__ == "__main__":
    main(sys.argv[1:])
