"""Captions image files.

python sample.py IMAGE_OR_FOLDER_OR_PATTERN ...   a line a file, by the captioner that comes with this
python sample.py photos/ --recursive --captioner DIR --output captions.jsonl --format jsonl
find . -name '*.jpg' | python sample.py - --write-sidecars
python sample.py --watch inbox/ --write-descriptions
python sample.py IMAGE --attention looks.png --explore page.html
python sample.py --serve                          a page for your browser, on this machine alone
python sample.py photos/ --top-p 0.9 --num-captions 3 --prefix "a photo of"
python sample.py --help                           every way of writing captions
"""

import gc

from captioner_jax.errors import UserError, for_people, interruptible, leave, terminable

if __name__ == "__main__":  # while all this is imported
    interruptible()
    gc.disable()  # what is imported is no garbage; looking for some in it again and again takes half a second

import contextlib
import dataclasses
import io
import itertools
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, TypeVar

import tqdm
import tyro

from captioner_jax import showing
from captioner_jax.captioning import Captioner, content_of, most_rows, rows_for
from captioner_jax.compilation import keep_compiled
from captioner_jax.config import Precision, validated
from captioner_jax.data.images import ImageError
from captioner_jax.fetching import Address, fetch
from captioner_jax.generation.settings import Generation
from captioner_jax.listing import STDIN, arrivals, find, has_picture_name, is_long
from captioner_jax.platforms import leave_out_absent_tpus
from captioner_jax.results import (
    CAPTION,
    DESCRIPTIONS,
    STDOUT,
    Format,
    Place,
    Results,
    head,
    open_results,
    sidecars,
    tell,
)

Named = TypeVar("Named", Path, Path | Address)
FORMATS: dict[str, Format] = {".jsonl": "jsonl", ".csv": "csv"}
"""By the endings of files."""
OWN_FILES = "--output, --attention and --explore name files of their own, and none of the images"


@dataclass(frozen=True)
class Options:
    """Captions image files."""

    images: tyro.conf.Positional[tuple[str, ...]]
    """Image files, folders of them, patterns; addresses with --allow-urls; or - for a list on standard input."""
    captioner: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A captioner directory, or hf://OWNER/NAME; several times: an ensemble; none: the one that comes with this."""
    precision: Precision = "float32"
    """What captions are computed in: bfloat16 halves the weights on a GPU or TPU; on CPUs it often takes longer. Words
    may differ."""
    recursive: bool = False
    """Folders within folders, too."""
    watch: Path | None = None
    """A folder: what is in it, then what comes, until Ctrl-C."""
    serve: bool = False
    """A page for pictures: their captions, and where the captioner looked for each word."""
    host: str | None = None
    """Of --serve: the address that it listens at, 127.0.0.1 if none is named; others let other machines in."""
    port: int | None = None
    """Of --serve: 8000 if none is named; 0 takes a free one."""
    allow_urls: bool = False
    """Fetch pictures named by http:// or https://."""
    format: Format | None = None
    """FILE: CAPTION; or JSON, or CSV, with the score and the log-probability. As --output is named, if not given."""
    output: Path | None = None
    """A file for the captions, in place of standard output."""
    write_sidecars: bool = False
    """Write the captions of x.jpg to x.txt beside it, too; one that is there stays as it is."""
    sidecar_ending: str | None = None
    """Of --write-sidecars: .caption, or what else others look for, in place of .txt."""
    sidecar_text: str | None = None
    """Of --write-sidecars: what is written, with the caption in {caption}'s place, such as "ohwx, {caption}"."""
    write_descriptions: bool = False
    """Write the best caption into the image file, too, as its description in XMP and EXIF; one that is there stays."""
    attention: Path | None = None
    """A PNG for one image: the picture once a word, with where the captioner looked for it."""
    explore: Path | None = None
    """A web page for one image, whole in itself: every head's looks, what else was considered, the search."""
    resume: bool = False
    """Leave out the images that --output, in jsonl or csv, has captions of; without --output, those whose files and
    descriptions are there already."""
    force: bool = False
    """Write over --output, and over files beside images and descriptions."""
    generation: Annotated[Generation, tyro.conf.arg(name="")] = field(default_factory=Generation)
    """How captions are written."""

    @property
    def kind(self) -> Format:
        """The format, as asked for or as the file is named."""
        ending = "" if self.output is None else self.output.suffix.lower()
        return self.format or FORMATS.get(ending, "text")

    @property
    def places(self) -> list[Place]:
        """Where captions go, besides."""
        beside = [sidecars(self.sidecar_ending or ".txt", self.sidecar_text or CAPTION)] if self.write_sidecars else []
        return beside + [DESCRIPTIONS] * self.write_descriptions

    @property
    def shown(self) -> list[Path]:
        """Files that show how the caption of one image came about."""
        return [file for file in (self.attention, self.explore) if file is not None]


@for_people
def main(arguments: list[str]) -> int:
    options = tyro.cli(Options, args=arguments, prog="sample.py")
    asked = validated(Generation, dataclasses.asdict(options.generation), "command line")
    check(options)
    leave_out_absent_tpus()
    keep_compiled()
    captioner = Captioner.load(*options.captioner, precision=options.precision)
    captioner.check(asked)
    if options.serve:
        serve(captioner, asked, options)
        return 0
    passed_over = set[str]()
    # Before the list is looked into, and its first piece gone from where it waits.
    is_full = STDIN not in options.images or is_long(sys.stdin, most_rows())
    pictures = iter(()) if options.watch is not None else named(options, passed_over)
    with ExitStack() as open_files:
        out, done, gives_way, kind = sys.stdout, frozenset[str](), False, options.kind
        if options.output is not None:
            wanted = options.generation.num_captions
            out, done, gives_way = open_results(options.output, kind, options.resume, options.force, wanted)
            open_files.enter_context(out)
        else:
            tell(out, head(kind), STDOUT)
        results = Results(out, options.output, kind, options.places, options.force, gives_way)
        if options.shown:
            show(captioner, asked, options, pictures, results)
        elif options.watch is not None:
            watch(options.watch, captioner, asked, options, done, results)
        else:
            caption(captioner, asked, options, pictures, done, results, most_rows() if is_full else 2)
        for line in (*results.summary(), *told(passed_over)):
            print(line, file=sys.stderr)
        return 1 if results.without else 0


def check(options: Options) -> None:
    """Raises UserError for options that cannot be meant together."""
    if [bool(options.images), options.watch is not None, options.serve].count(True) != 1:
        takes_all = options.generation.must_say or options.generation.banned
        hint = "; name images before --must-say and --banned, which take all that follows" if takes_all else ""
        raise UserError(f"name images to caption, or a folder to --watch, or --serve a page; --help tells more{hint}")
    if options.watch is not None and not options.watch.is_dir():
        raise UserError(f"--watch {options.watch}: there is no such folder")
    if STDIN in options.images and sys.stdin is None:
        raise UserError("- is a list on standard input, which is closed")
    if sys.stdout is None and not options.serve and options.output is None:
        raise UserError("standard output is closed: name a file with --output")
    if options.resume and options.output is None and not options.places and not options.serve:
        raise UserError("--resume goes on with an --output, or with --write-sidecars or --write-descriptions")
    if options.resume and options.force:
        raise UserError("--resume keeps what is written, --force does not: take one of them")
    check_page(options)
    check_sidecars(options)
    files = [file for file in (*options.shown, options.output) if file is not None]
    named_images = [Path(name) for name in options.images if name != STDIN]
    if len({file.resolve() for file in files}) < len(files) or any(is_one_of(file, named_images) for file in files):
        raise UserError(OWN_FILES)
    check_shown(options)
    if options.output is not None:
        check_output(options, options.output)


def check_page(options: Options) -> None:
    """Raises UserError for what a page has no use for, or is of use to none but a page."""
    if not options.serve and (options.host is not None or options.port is not None):
        raise UserError("--host and --port say where --serve listens: leave them out, or --serve a page")
    if options.serve and (options.output or options.places or options.resume or options.shown or options.force):
        raise UserError(
            "--serve writes nothing: leave out --output, --force, --resume, --attention, --explore and the --write "
            "options"
        )
    if options.serve and (options.recursive or options.allow_urls or options.format):
        raise UserError("--serve takes pictures from its page: leave out --recursive, --allow-urls and --format")


def check_shown(options: Options) -> None:
    """Raises UserError where it cannot be shown how a caption came about."""
    if not options.shown:
        return
    if options.generation.num_captions != 1:
        raise UserError("--attention and --explore show the best caption: leave out --num-captions")
    if len(options.images) != 1:
        raise UserError("--attention and --explore show one image: name it, and no other")
    if options.resume:
        raise UserError("--attention and --explore show the image in any case: leave out --resume")
    if options.attention is not None and options.attention.suffix.lower() not in ("", ".png"):
        raise UserError(f"--attention {options.attention}: it is a PNG, and is to be named so")
    for file in options.shown:
        if file.exists() and not options.force:
            raise UserError(f"{file} is there already; --force writes it anew")


def check_output(options: Options, output: Path) -> None:
    """Raises UserError for a file that captions cannot be meant to go into."""
    ending = output.suffix.lower()
    if FORMATS.get(ending, options.kind) != options.kind:
        raise UserError(f"--output {output} is named like {FORMATS[ending]}: leave out --format {options.format}")
    if ending == ".json" or str(output) == STDIN:
        raise UserError(
            f"--output {output}: lines of JSON go into a file named .jsonl, and captions to standard output where no "
            "--output is named"
        )
    if options.force and has_picture_name(output) and output.exists():
        raise UserError(f"--output {output} has the name of a picture: no captions are written over it")


def check_sidecars(options: Options) -> None:
    """Raises UserError for what no files beside images can be."""
    ending, text = options.sidecar_ending, options.sidecar_text
    if not options.write_sidecars and (ending is not None or text is not None):
        raise UserError("--sidecar-ending and --sidecar-text are of --write-sidecars: ask for that, too")
    beside = Path(f"x{ending}")
    if ending is not None and (not ending or has_picture_name(beside) or beside.suffix != ending):
        raise UserError(
            f"--sidecar-ending {ending}: wanted is a dot and what follows it, such as .caption, of no picture"
        )
    if text is not None and (CAPTION not in text or "\n" in text):
        raise UserError(f"--sidecar-text {text!r}: wanted is a line with {CAPTION} in it")


def caption(
    captioner: Captioner,
    asked: Generation,
    options: Options,
    pictures: Iterator[Path | Address],
    done: frozenset[str],
    results: Results,
    first_rows: int,
) -> None:
    """Tells the captions of all pictures that are not done; of so many, if there are more, the first ones wait."""
    images = remaining(pictures, options, done)
    first = list(itertools.islice(images, first_rows))
    if not first:
        print("nothing is left to do", file=sys.stderr)
        return
    # Lines of captions on a terminal show how far it is, and where nobody looks nothing need be shown.
    is_shown = sys.stderr is not None and sys.stderr.isatty() and not results.out.isatty()
    is_counted = is_shown and STDIN not in options.images
    counted = sum(1 for _ in remaining(named(options), options, done)) if is_counted else None
    shown = captioner.stream(itertools.chain(first, images), asked, rows_for(len(first)), reader(options))
    for picture, captions in tqdm.tqdm(shown, total=counted, unit="image", disable=not is_shown):
        results.add(picture, captions)


def show(
    captioner: Captioner,
    asked: Generation,
    options: Options,
    pictures: Iterator[Path | Address],
    results: Results,
) -> None:
    """Tells the caption of the one image, and writes the files that show how it came about."""
    images = list(itertools.islice(pictures, 2))
    if len(images) > 1:
        raise UserError(f"--attention and --explore show one image, and there are more in {options.images[0]}")
    (image,) = images
    if isinstance(image, Path) and is_one_of(image, options.shown):
        raise UserError(OWN_FILES)
    try:
        content = reader(options)(image)
        content = content_of(content) if isinstance(content, Path) else content
        results.add(image, [showing.show(captioner, content, str(image), asked, options.attention, options.explore)])
    except ImageError as error:
        results.add(image, error)
    except OSError as error:
        results.add(image, ImageError(error.strerror or str(error)))


def watch(
    folder: Path, captioner: Captioner, asked: Generation, options: Options, done: frozenset[str], results: Results
) -> None:
    """Tells the captions of a folder's images, as they come, until Ctrl-C."""
    print(f"watching {folder}; Ctrl-C ends it", file=sys.stderr)
    with contextlib.suppress(KeyboardInterrupt):
        seen: set[Path] = set()
        is_there = True
        for images in arrivals(folder, options.recursive, options.write_descriptions):
            if folder.is_dir() != is_there:
                is_there = not is_there
                print(f"{folder} is {'there again' if is_there else 'gone; it may come back'}", file=sys.stderr)
            left = {*remaining((image for image in images if image not in seen), options, done)}
            some = [image for image in images if image in seen or image in left]  # what comes again has changed
            seen |= {*images}
            for picture, captions in captioner.stream(some, asked, rows_for(len(some))):
                results.add(picture, captions)


def serve(captioner: Captioner, asked: Generation, options: Options) -> None:
    """Shows a page, until Ctrl-C."""
    try:
        from captioner_jax.web import serving
    except ImportError as error:
        raise UserError("--serve needs pip install 'captioner-jax[serve]'") from error
    host, port = options.host or "127.0.0.1", 8000 if options.port is None else options.port
    serving.serve(captioner, asked, host, port)
    sys.stderr.flush()
    os._exit(0)  # Python would wait for a caption that nobody waits for any more


def is_one_of(file: Path, others: Iterable[Path]) -> bool:
    """Is it, by whatever name, one of those that are there?"""
    for other in others:
        with contextlib.suppress(OSError):
            if file.samefile(other):
                return True
    return False


def reader(options: Options) -> Callable[[Path | Address], Path | bytes]:
    """How a picture that is named is come by."""

    def read(picture: Path | Address) -> Path | bytes:
        if isinstance(picture, Path):
            return picture
        if not options.allow_urls:
            raise ImageError("nothing is fetched from the web without --allow-urls")
        return fetch(picture)

    return read


def named(options: Options, passed_over: set[str] | None = None) -> Iterator[Path | Address]:
    """All pictures that are named; those of kinds that cannot be read are noted. Raises UserError where none is."""
    passed_over = set() if passed_over is None else passed_over
    found = find(options.images, options.recursive, sys.stdin or (), passed_over)
    first = next(found, None)
    if first is None:
        folders = [Path(name) for name in options.images if os.path.isdir(name)]  # noqa: PTH112
        has_others = any(child.is_dir() for folder in folders for child in folder.iterdir())
        hint = "; --recursive looks into folders within folders, too" if has_others and not options.recursive else ""
        raise UserError("\n".join([f"no images in {', '.join(options.images)}{hint}", *told(passed_over)]))
    return itertools.chain([first], found)


def told(passed_over: set[str]) -> Iterator[str]:
    """What is to be said of pictures that cannot be read."""
    if passed_over:
        counts = Counter(Path(name).suffix.lower() for name in passed_over)
        kinds = ", ".join(f"{count:,} {ending}" for ending, count in counts.most_common())
        yield f"passed over, since Pillow cannot read them: {kinds}; save them as JPEG or PNG"


def remaining(pictures: Iterable[Named], options: Options, done: frozenset[str]) -> Iterator[Named]:
    """Those without captions, where it is resumed; else all."""
    for picture in pictures:
        if not options.resume:
            yield picture
        elif options.output is not None:
            if str(picture) not in done:
                yield picture
        elif isinstance(picture, Address) or not all(is_kept(picture, place) for place in options.places):
            yield picture


def is_kept(picture: Path, place: Place) -> bool:
    """Is there a caption already? What cannot be looked at has none; what is wrong with it is told in its turn."""
    try:
        return place.has(picture)
    except (OSError, ValueError):
        return False


if __name__ == "__main__":
    terminable()
    gc.freeze()  # what is imported stays, and is never looked through
    gc.enable()
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")  # names of files may be no UTF-8
    leave(main(sys.argv[1:]), waits=False)  # as --watch ends by Ctrl-C, while a picture may not have come
