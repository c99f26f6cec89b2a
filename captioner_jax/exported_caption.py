"""Captions pictures by an export of captioner_jax, without it: needs jax, flatbuffers, numpy, pillow and tokenizers.

python caption.py PICTURE ...
"""

import io
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


def square(path: str, size: int, framing: str) -> np.ndarray:
    """What the model sees of a picture: the middle of it, or the whole of it, squeezed; uint8[Y X 3]."""
    with Image.open(path) as image:
        if image.format == "EPS":
            raise ValueError("EPS, which is a program, and not run here: save it as PNG or JPEG")
        image.draft("RGB", (2 * size, 2 * size))  # JPEGs are faster to read at a reduced size
        upright = in_colour(ImageOps.exif_transpose(image))
    fit = Image.Image.resize if framing == "whole" else ImageOps.fit
    return np.asarray(fit(upright, (size, size), Image.Resampling.BICUBIC))


def in_colour(image: Image.Image) -> Image.Image:
    """In RGB, over white where it is transparent; grey of more than 8 bits scaled to 8, if it reaches further."""
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        grey = np.asarray(image)
        if np.issubdtype(grey.dtype, np.integer):
            is_small = grey.dtype.itemsize > 2 and grey.max() <= 255
            grey = np.clip(grey, 0, 255) if is_small else np.clip(grey, 0, 65535) // 257
        else:
            grey = np.nan_to_num(grey, posinf=0.0)
            grey = np.clip(grey / max(float(grey.max()), 1e-9), 0, 1) * 255
        image = Image.fromarray(grey.astype(np.uint8))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def main(paths: list[str]) -> int:
    """Prints the captions of each picture, the best first; of one that is of no use, why: the exit code is then 1."""
    if not paths:
        print(__doc__)
        return 1
    manifest = json.loads((HERE / "export.json").read_text(encoding="utf-8"))
    tokenizer = tokenizers.Tokenizer.from_file(str(HERE / "tokenizer.json"))
    encode, search = (
        jax.jit(export.deserialize(bytearray((HERE / f"{name}.stablehlo").read_bytes())).call)
        for name in ("encode", "search")
    )
    code = 0
    for path in paths:
        try:
            pixels = square(path, manifest["image_size"], manifest["framing"])[None]
        except Exception as error:  # Pillow's, for damaged files, are of many kinds
            print(f"{path}: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
            code = 1
            continue
        numbers = np.array([zlib.crc32(pixels.tobytes())], np.uint32)
        tokens, log_p, scores = map(np.asarray, search(encode(pixels), numbers))
        for ids, p, score in zip(tokens[0].tolist(), log_p[0], scores[0], strict=True):
            if np.isfinite(score):  # minus infinity: constraints leave no such caption
                ids = ids[: ids.index(manifest["end"])] if manifest["end"] in ids else ids
                print(f"{path}: {tokenizer.decode(ids)} ({p:.4f})")
    return code


if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # names of files may be no UTF-8
    sys.exit(main(sys.argv[1:]))
