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
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from PIL import Image

from captioner_jax import bundle
from captioner_jax.captioning import BATCH, Captioner
from captioner_jax.compilation import keep_compiled
from captioner_jax.config import validated
from captioner_jax.data.images import ImageError
from captioner_jax.errors import UserError, for_people
from captioner_jax.generation.settings import Generation

RUNS = Path(__file__).parent / "runs"


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


@for_people
def main(arguments: list[str]) -> int:
    options = tyro.cli(Options, args=arguments, prog="sample.py")
    asked = validated(Generation, dataclasses.asdict(options.generation), "command line")
    keep_compiled()
    captioner = Captioner.load(options.captioner or bundle.newest(RUNS))
    files = find(options.images)
    if not files:
        raise UserError(f"no images in {', '.join(options.images)}" if options.images else "name images to caption")
    failures = 0
    for path, captions in captioner.stream(files, asked, batch_size=min(BATCH, len(files))):
        if isinstance(captions, ImageError) or not captions:
            failures += 1
            print(f"{path}: {captions or 'what is asked of captions leaves none'}", file=sys.stderr)
            continue
        for caption in captions:
            known = {"image": str(path), "caption": caption.text, "score": caption.score, "log_p": caption.log_p}
            print(json.dumps(known, ensure_ascii=False) if options.json else f"{path}: {caption.text}", flush=True)
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
