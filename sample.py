"""Captions image files.

python sample.py IMAGE_OR_FOLDER_OR_GLOB ...      one line a file, by the newest captioner trained here
python sample.py photos/ --captioner DIR --beam 5 --json
python sample.py photos/ --top-p 0.9 --num-captions 3 --prefix "a photo of"
python sample.py --help                           every way of writing captions
"""

import dataclasses
import glob
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, NamedTuple

import jax
import numpy as np
import tyro
from PIL import Image

from captioner_jax import bundle
from captioner_jax.bundle import Bundle
from captioner_jax.compilation import keep_compiled
from captioner_jax.config import validated
from captioner_jax.data.images import ImageError, open_image, to_square
from captioner_jax.errors import UserError, for_people
from captioner_jax.generation.settings import Generation, make_search
from captioner_jax.generation.writing import make_asked_writer

RUNS = Path(__file__).parent / "runs"
BATCH = 16


@dataclass(frozen=True)
class Options:
    """Captions image files, a line a caption."""

    images: tyro.conf.Positional[tuple[str, ...]]
    """Image files, folders of them, or glob patterns."""
    captioner: Path | None = None
    """A captioner directory; None: the newest trained here."""
    json: bool = False
    """A JSON object a caption: image, caption, score, log_p."""
    generation: Annotated[Generation, tyro.conf.arg(name="")] = field(default_factory=Generation)
    """How captions are written."""


class Caption(NamedTuple):
    """A caption, the score it was ranked by, and its log-probability in nats."""

    text: str
    score: float
    log_p: float


@for_people
def main(arguments: list[str]) -> int:
    options = tyro.cli(Options, args=arguments, prog="sample.py")
    asked = validated(Generation, dataclasses.asdict(options.generation), "command line")
    keep_compiled()
    captioner = bundle.load(options.captioner or bundle.newest(RUNS))
    files = find(options.images)
    if not files:
        raise UserError(f"no images in {', '.join(options.images) or 'nothing: name some'}")
    failures = 0
    for path, captions in captioned(captioner, files, asked):
        failures += not captions
        for caption in captions:
            if options.json:
                known = {"image": str(path), "caption": caption.text, "score": caption.score, "log_p": caption.log_p}
                print(json.dumps(known, ensure_ascii=False), flush=True)
            else:
                print(f"{path}: {caption.text}", flush=True)
    if failures and len(files) > 1:
        print(f"{failures} of {len(files)} files could not be captioned", file=sys.stderr)
    return 1 if failures else 0


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


def captioned(captioner: Bundle, files: list[Path], asked: Generation) -> Iterator[tuple[Path, list[Caption]]]:
    """Each file's captions, the best first; none, and a line on stderr, where there is no use for the file."""
    search = make_search(asked, captioner.tokenizer, captioner.max_length)
    write = make_asked_writer(captioner.graphdef, captioner.preprocessing, search)
    size, key = captioner.preprocessing.image_size, jax.random.key(asked.seed)
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
                yield path, []
        if usable:
            found = write(captioner.parameters, pixels, jax.random.fold_in(key, start))
            tokens, log_p, scores = map(np.asarray, found)
            for row, path in usable.items():
                written = zip(tokens[row], scores[row], log_p[row], strict=True)
                captions = [
                    Caption(captioner.tokenizer.decode(ids), float(score), float(likely))
                    for ids, score, likely in written
                    if np.isfinite(score)
                ]
                if not captions:
                    print(f"{path}: no caption is left by what is asked of it", file=sys.stderr)
                yield path, captions


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
