"""Captions image files.

python sample.py IMAGE_OR_FOLDER_OR_PATTERN ...   a line a file, by the newest captioner trained here
python sample.py photos/ --recursive --captioner DIR --output captions.jsonl --format jsonl
find . -name '*.jpg' | python sample.py - --write-sidecars
python sample.py photos/ --top-p 0.9 --num-captions 3 --prefix "a photo of"
python sample.py --help                           every way of writing captions
"""

import dataclasses
import io
import itertools
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, TextIO

import tqdm
import tyro

from captioner_jax import bundle
from captioner_jax.captioning import BATCH, Captioner
from captioner_jax.compilation import keep_compiled
from captioner_jax.config import validated
from captioner_jax.data.images import ImageError
from captioner_jax.errors import UserError, for_people
from captioner_jax.generation.settings import Generation
from captioner_jax.listing import STDIN, find
from captioner_jax.results import Format, head, lines_of, open_results, sidecar, tell, write_sidecar

RUNS = Path(__file__).parent / "runs"


@dataclass(frozen=True)
class Options:
    """Captions image files."""

    images: tyro.conf.Positional[tuple[str, ...]]
    """Image files, folders of them, patterns, or - for a list of files on standard input."""
    captioner: str | None = None
    """A captioner directory, or hf://OWNER/NAME; None: the newest trained here."""
    recursive: bool = False
    """Folders within folders, too."""
    format: Format = "text"
    """FILE: CAPTION; or JSON, or CSV, with the score and the log-probability."""
    output: Path | None = None
    """A file for the captions, in place of standard output."""
    write_sidecars: bool = False
    """Write the captions of x.jpg to x.txt beside it, too; one that is there stays as it is."""
    resume: bool = False
    """Leave out the images that --output, or with --write-sidecars alone a file beside them, has captions of."""
    force: bool = False
    """Write over --output and over files beside images."""
    generation: Annotated[Generation, tyro.conf.arg(name="")] = field(default_factory=Generation)
    """How captions are written."""


@for_people
def main(arguments: list[str]) -> int:
    options = tyro.cli(Options, args=arguments, prog="sample.py")
    asked = validated(Generation, dataclasses.asdict(options.generation), "command line")
    check(options)
    keep_compiled()
    captioner = Captioner.load(options.captioner or bundle.newest(RUNS))
    with ExitStack() as open_files:
        out, done = sys.stdout, frozenset[str]()
        if options.output is not None:
            out, done = open_results(options.output, options.format, options.resume, options.force)
            open_files.enter_context(out)
        else:
            out.write(head(options.format))
        return caption(captioner, asked, options, out, done)


def check(options: Options) -> None:
    """Raises UserError for options that cannot be meant together."""
    if not options.images:
        raise UserError("name images to caption; --help tells more")
    if options.resume and options.output is None and not options.write_sidecars:
        raise UserError("--resume goes on with an --output, or with --write-sidecars")
    if options.resume and options.force:
        raise UserError("--resume keeps what is written, --force does not: take one of them")


def caption(captioner: Captioner, asked: Generation, options: Options, out: TextIO, done: frozenset[str]) -> int:
    """Writes the captions of all images that are not done; gives the exit code."""
    images = remaining(options, done)
    first = list(itertools.islice(images, 2))
    if not first:
        if options.resume and next(files(options), None) is not None:
            print("nothing is left to do", file=sys.stderr)
            return 0
        raise UserError(f"no images in {', '.join(options.images)}")
    batch_size = min(BATCH, len(first))
    counted = None if STDIN in options.images else sum(1 for _ in remaining(options, done))
    shown = captioner.stream(itertools.chain(first, images), asked, batch_size)
    # Lines of captions on a terminal show how far it is.
    quiet = True if out.isatty() else None
    seen = failures = kept = 0
    for path, captions in tqdm.tqdm(shown, total=counted, unit="image", disable=quiet):
        seen += 1
        if isinstance(captions, ImageError) or not captions:
            failures += 1
            tqdm.tqdm.write(f"{path}: {captions or 'what is asked of captions leaves none'}", file=sys.stderr)
            continue
        tell(out, lines_of(path, captions, options.format), str(options.output or "standard output"))
        kept += options.write_sidecars and not write_sidecar(path, captions, options.force)
    if kept:
        print(f"{kept} files beside images were there already and stay: --force writes them anew", file=sys.stderr)
    if failures and seen > 1:
        print(f"{failures} of {seen} files could not be captioned", file=sys.stderr)
    return 1 if failures else 0


def files(options: Options) -> Iterator[Path]:
    """All that are named."""
    return find(options.images, options.recursive, sys.stdin)


def remaining(options: Options, done: frozenset[str]) -> Iterator[Path]:
    """Those without captions, where it is resumed; else all."""
    if not options.resume:
        return files(options)
    if options.output is not None:
        return (path for path in files(options) if str(path) not in done)
    return (path for path in files(options) if not sidecar(path).exists())


if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # names of files may be no UTF-8
    sys.exit(main(sys.argv[1:]))
