"""Captions image files.

python sample.py IMAGE_OR_FOLDER_OR_GLOB ...      one line a file, by the newest captioner trained here
python sample.py photos/ --captioner DIR --beam 5 --json
"""

import argparse
import glob
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from captioner_jax import bundle
from captioner_jax.bundle import Bundle
from captioner_jax.compilation import keep_compiled
from captioner_jax.data.images import ImageError, open_image, to_square
from captioner_jax.errors import UserError, for_people
from captioner_jax.generation.writing import make_writer

RUNS = Path(__file__).parent / "runs"
BATCH = 16


@for_people
def main(arguments: list[str]) -> int:
    options = options_from(arguments)
    keep_compiled()
    captioner = bundle.load(options.captioner or bundle.newest(RUNS))
    files = find(options.images)
    if not files:
        raise UserError(f"no images in {', '.join(options.images)}")
    failures = 0
    for path, caption, score in captions(captioner, files, options.beam):
        if caption is None:
            failures += 1
        elif options.json:
            print(json.dumps({"image": str(path), "caption": caption, "score": score}, ensure_ascii=False), flush=True)
        else:
            print(f"{path}: {caption}", flush=True)
    if failures and len(files) > 1:
        print(f"{failures} of {len(files)} files could not be captioned", file=sys.stderr)
    return 1 if failures else 0


def options_from(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("sample.py", description="Captions image files, a line a file.")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files, folders of them, or glob patterns")
    parser.add_argument("--captioner", type=Path, metavar="DIR", help="default: the newest trained here")
    parser.add_argument(
        "--beam", type=_width, default=1, metavar="N", help="width of the search; 1, the default, is greedy"
    )
    parser.add_argument("--json", action="store_true", help="a JSON object a line: image, caption, score")
    return parser.parse_args(arguments)


def find(names: Iterable[str]) -> list[Path]:
    """The files that are named: themselves, the images in a folder, what a pattern matches. Others stay as they are."""
    kinds = Image.registered_extensions()
    found: list[Path] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            found += sorted(file for file in path.iterdir() if file.suffix.lower() in kinds)
        elif path.exists():
            found.append(path)
        else:
            found += map(Path, sorted(glob.glob(name, recursive=True)) or [name])
    return found


def captions(captioner: Bundle, files: list[Path], beams: int) -> Iterator[tuple[Path, str | None, float]]:
    """Each file's caption and its score; None for a caption, and a line on stderr, where the file is of no use."""
    write = make_writer(captioner.graphdef, captioner.preprocessing, length=captioner.max_length, beams=beams)
    size = captioner.preprocessing.image_size
    batch = 1 if len(files) == 1 else BATCH
    for start in range(0, len(files), batch):
        pixels = np.zeros((batch, size, size, 3), np.uint8)  # always full, so that nothing is compiled twice
        usable = {}
        for row, path in enumerate(files[start : start + batch]):
            try:
                pixels[row] = to_square(open_image(path.read_bytes(), size), size)
                usable[row] = path
            except (ImageError, OSError) as error:
                print(f"{path}: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
                yield path, None, 0.0
        if usable:
            tokens, scores = map(np.asarray, write(captioner.parameters, pixels))
            for row, path in usable.items():
                yield path, captioner.tokenizer.decode(tokens[row, 0]), float(scores[row, 0])


def _width(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"wanted a whole number from 1 up, not {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
