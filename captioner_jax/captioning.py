"""Pictures to captions, for programs: captioner directories in memory, asked as often as one likes."""

import dataclasses
import functools
import io
import os
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jaxtyping import Float, Int, UInt8, UInt32
from PIL import Image

from captioner_jax import bundle
from captioner_jax.bundle import Bundle
from captioner_jax.config import Framing, Precision, validated
from captioner_jax.data.ahead import read_ahead
from captioner_jax.data.images import ImageError, open_image, to_square, upright
from captioner_jax.devices import device_count, even_rows, everywhere, on_first
from captioner_jax.errors import UserError
from captioner_jax.explain.evidence import make_evidence
from captioner_jax.explain.explained import Alternative, Explained, Grounds
from captioner_jax.explain.reading import make_reader
from captioner_jax.explain.tree import Branch, grow
from captioner_jax.generation.caption import Caption
from captioner_jax.generation.ensemble import Ensemble
from captioner_jax.generation.neighbours import index
from captioner_jax.generation.search import Beams, Found
from captioner_jax.generation.settings import Generation, make_recorder, make_search
from captioner_jax.generation.writing import Untrained, halves, make_asked_writer, ready
from captioner_jax.model.names import Parameters
from captioner_jax.text.special import PAD

Open = io.BufferedIOBase | io.RawIOBase
Picture = Image.Image | np.ndarray | jax.Array | bytes | bytearray | Open | str | os.PathLike
"""A PIL image, an array uint8[Y X], [Y X 3] or [Y X 4], the bytes of an image file, one that is open to be read, or the
path of one."""
Asked = TypeVar("Asked")
Square = UInt8[np.ndarray, "Y X 3"]
"""What the model sees of a picture."""
# Images at a time on each device: of many, and of fewer than that.
BATCH, FEW = 16, 4
GIBIBYTE = 2**30
# Of a file that is read: more than the most pixels that are taken have in any format.
LARGEST = 2 * GIBIBYTE
# Tokens told beside each that was written.
ALTERNATIVES = 6


class Captioner:
    """What `sample.py` does, as calls:

    captioner = Captioner.load()                             the one that comes with this; or .load(DIRECTORY)
    captioner.caption(["dog.jpg", image], beam=5)            the best caption of each
    captioner.captions("dog.jpg", num_captions=3)            three of each, with their log-probabilities
    captioner.explain("dog.jpg").looks                       where each head looked for each word
    captioner.grounds("dog.jpg").occlusion                   what each word loses without each cell of the image
    captioner.search_tree("dog.jpg")                         what the search considered

    Keywords are the settings in `generation.settings.Generation`. Each way of asking is compiled once. Several
    directories are an ensemble, which writes by the mean of their probabilities.
    """

    def __init__(self, first: Bundle, *others: Bundle, precision: Precision = "float32"):
        """Of one vocabulary, one image size and one framing. Raises UserError for others.

        `precision` is what is computed in: bfloat16 halves the weights on a GPU or TPU; on CPUs it often takes longer
        (docs/generation.md).
        """
        self.bundles = bundles = (first, *others)
        bundle.check_alike(bundles)
        self.tokenizer = first.tokenizer
        self.image_size = first.preprocessing.image_size
        self.framing: Framing = first.preprocessing.framing
        self.max_length = min(one.max_length for one in bundles)
        self._models = [_model(one, precision) for one in bundles]
        self._index = functools.cache(
            lambda: everywhere([index(one.photographs) for one in bundles if one.photographs is not None])
        )
        self._writer = functools.lru_cache(maxsize=8)(self._make_writer)
        self._recorder = functools.lru_cache(maxsize=8)(self._make_recorder)
        self._reader = functools.cache(lambda: make_reader(self._models[0].untrained, ALTERNATIVES))
        self._evidence = functools.cache(lambda: make_evidence(self._models[0].untrained))

    @classmethod
    def load(cls, *directories: str | os.PathLike[str], precision: Precision = "float32") -> "Captioner":
        """From a directory, or by hf://OWNER/NAME from the hub; from several, an ensemble; from none, `RELEASED`.

        Raises UserError where one is no captioner, a damaged one, or one of a later format, and where they do not go
        together.
        """
        loaded = (bundle.load(bundle.found(str(one))) for one in directories or [bundle.RELEASED])
        return cls(*loaded, precision=precision)

    def check(self, asked: Generation) -> None:
        """Raises UserError for what contradicts itself, and for words that the captioner does not know."""
        self._compiled(asked)

    def caption(self, pictures: Picture | Sequence[Picture], **asked: Any) -> list[str]:
        """The best caption of each picture; as `captions`."""
        return [captions[0].text if captions else "" for captions in self.captions(pictures, **asked)]

    def captions(self, pictures: Picture | Sequence[Picture], **asked: Any) -> list[list[Caption]]:
        """Of each picture its captions, the best first; none where constraints leave none.

        Raises UserError for settings that do not exist or cannot be had, and ImageError, which names the picture, for
        one of no use.
        """
        pictures = [pictures] if isinstance(pictures, Picture) else _several(pictures)
        settings = validated(Generation, asked, "settings")
        found: list[list[Caption]] = []
        for number, (picture, captions) in enumerate(self.stream(pictures, settings, rows_for(len(pictures)))):
            if isinstance(captions, ImageError):
                raise ImageError(f"{picture if _is_named(picture) else f'picture {number}'}: {captions}")
            found.append(captions)
        return found

    def explain(self, picture: Picture, **asked: Any) -> Explained:
        """The best caption of a picture, and where the captioner looked as it wrote it.

        Raises as `written`, and UserError for an ensemble, which looks with several models' eyes.
        """
        return self.explained(self.written(picture, validated(Generation, asked, "settings")))

    def grounds(self, picture: Picture, **asked: Any) -> Grounds:
        """What each token of the same caption rests on, judged in four ways. Raises alike."""
        return self.grounded(self.written(picture, validated(Generation, asked, "settings")))

    def search_tree(self, picture: Picture, **asked: Any) -> list[Branch]:
        """All that the search of the same caption considered. Raises alike, and UserError where words are drawn."""
        settings = validated(Generation, asked, "settings")
        self._recorder(settings)  # which refuses those, before anything is searched
        return self.searched(self.written(picture, settings), settings)

    def written(self, picture: Picture, asked: Generation) -> "Written":
        """The captions of one picture, and what the next three explain the best one by.

        Raises ImageError for a picture of no use, and UserError for settings that cannot be had and where they leave
        no caption.
        """
        square = _square(picture, lambda picture: picture, self.image_size, self.framing)
        if isinstance(square, ImageError):
            raise ImageError(f"{picture}: {square}") if _is_named(picture) else square
        pixels = square[None]
        parameters = [model.parameters for model in self._models]
        found = self._compiled(asked)(parameters, pixels, _numbers(pixels), halves(asked.seed))
        tokens, log_p, scores = (np.asarray(x)[0] for x in found)
        captions = self._captions(tokens, log_p, scores)
        if not captions:
            raise UserError("what is asked for leaves no caption of this picture")
        return Written(pixels, tokens[0], [self.tokenizer.name(i) for i in tokens[0] if i != PAD], captions)

    def explained(self, written: "Written") -> Explained:
        """Where the captioner looked as it wrote the best of these. Raises UserError for an ensemble."""
        found = self._reader()(self._alone(), written.pixels, written.tokens[None])
        log_p, likeliest, likeliest_log_p, looks, looks_back = (np.asarray(x)[0] for x in found)
        length = len(written.names)
        alternatives = [
            [Alternative(self.tokenizer.name(i), float(np.exp(p))) for i, p in zip(*row, strict=True) if np.isfinite(p)]
            for row in zip(likeliest[:length], likeliest_log_p[:length], strict=True)
        ]
        return Explained(
            written.captions[0],
            written.names,
            np.exp(log_p[:length]),
            alternatives,
            looks[:, :, :length],
            looks_back[:, :, :length, :length],
        )

    def grounded(self, written: "Written") -> Grounds:
        """What each token of the best of these rests on. Raises UserError for an ensemble."""
        maps = self._evidence()(self._alone(), written.pixels, written.tokens[None])
        return Grounds(*(np.asarray(x)[0, : len(written.names)] for x in maps))

    def searched(self, written: "Written", asked: Generation) -> list[Branch]:
        """All that the search that was asked for considered. Raises UserError as `search_tree`."""
        steps = self._recorder(asked)(self._alone(), written.pixels)
        return grow(np.asarray(steps.tokens)[0], np.asarray(steps.log_p)[0], written.tokens, self.tokenizer)

    def stream(
        self,
        pictures: Iterable[Asked],
        asked: Generation,
        batch_size: int | None = None,
        read: Callable[[Any], Picture] = lambda picture: picture,
    ) -> Iterator[tuple[Asked, list[Caption] | ImageError]]:
        """Each picture with its captions, or with what is wrong with it, in order, however many there are.

        `read` may say how a picture is come by from what names it; it may take its time, and raise ImageError. While
        one batch is captioned the next is read and decoded. The last batch is filled up, so that nothing is compiled
        for it alone. A batch has `batch_size` pictures, or a few more, so that devices share evenly; by itself, many.
        """
        if batch_size is not None and batch_size < 1:
            raise UserError(f"batch_size {batch_size}: a batch has a picture at least")
        batch_size = 1 if batch_size == 1 else even_rows(batch_size or most_rows())
        write, parameters = self._compiled(asked), [model.parameters for model in self._models]
        square = lambda picture: _square(picture, read, self.image_size, self.framing)  # noqa: E731
        ahead: tuple[_Batch, Found] | None = None
        for batch in map(_Batch, read_ahead(pictures, batch_size, square)):
            pixels = batch.pixels(batch_size, self.image_size)
            found = write(parameters, pixels, _numbers(pixels), halves(asked.seed))
            if ahead is not None:
                yield from self._told(*ahead)
            ahead = batch, found
        if ahead is not None:
            yield from self._told(*ahead)

    def _compiled(self, asked: Generation) -> Callable[..., Found]:
        """The search that is asked for, compiled once whatever the seed, which is an argument."""
        return self._writer(dataclasses.replace(validated(Generation, vars(asked), "settings"), seed=0))

    def _make_writer(self, asked: Generation) -> Callable[..., Found]:
        search = make_search(asked, self.tokenizer, self.max_length)
        photographs = self._index() if bundle.photographs_of(self.bundles, asked.neighbours) else []
        write = make_asked_writer([model.untrained for model in self._models], search)
        return lambda *arguments: write(*arguments, photographs)

    def _make_recorder(self, asked: Generation) -> Callable[..., Beams]:
        record = make_recorder(asked, self.tokenizer, self.max_length)
        untrained = self._models[0].untrained
        return jax.jit(lambda parameters, pixels: record(Ensemble([untrained.voice(parameters, pixels)])))

    def _alone(self) -> Parameters:
        """The only captioner's, on the first device. Raises UserError for an ensemble."""
        if len(self.bundles) > 1:
            raise UserError("an ensemble cannot be explained: ask one of its captioners")
        return on_first(self._models[0].parameters)

    def _told(self, batch: "_Batch", found: Found) -> Iterator[tuple[Any, list[Caption] | ImageError]]:
        tokens, log_p, scores = map(np.asarray, found)
        for row, (picture, square) in enumerate(batch):
            told = square if isinstance(square, ImageError) else self._captions(tokens[row], log_p[row], scores[row])
            yield picture, told

    def _captions(
        self, tokens: Int[np.ndarray, "K T"], log_p: Float[np.ndarray, " K"], scores: Float[np.ndarray, " K"]
    ) -> list[Caption]:
        """Of one picture, all different; none of those that have come to a dead end."""
        captions: dict[str, Caption] = {}  # pairs of bytes may spell one in several ways
        for of_one, score, p in zip(tokens, scores, log_p, strict=True):
            if np.isfinite(score):
                text = self.tokenizer.decode(of_one)
                captions.setdefault(text, Caption(text, float(score), float(p)))
        return list(captions.values())


def _several(pictures: Any) -> list[Picture]:
    """Raises ImageError where these are no pictures at all: a number, or a file that is open as text."""
    if isinstance(pictures, io.TextIOBase) or not isinstance(pictures, Iterable):
        raise ImageError(f"wanted a picture, or a list of them, not {type(pictures).__name__}")
    return list(pictures)


def rows_for(pictures: int) -> int:
    """Of a batch for so many pictures: one of three numbers, so that nothing is compiled for others."""
    if pictures == 1:
        return 1
    return most_rows() if pictures >= most_rows() else FEW * device_count()


def most_rows() -> int:
    """Of a batch for many pictures."""
    return BATCH * device_count()


class _Model(NamedTuple):
    """What captions are computed with, on each device."""

    untrained: Untrained
    parameters: Parameters


def _model(one: Bundle, precision: Precision) -> _Model:
    """Raises UserError where no such precision is."""
    try:
        graphdef, parameters = ready(one.graphdef, one.parameters, precision)
    except ValueError as error:
        raise UserError(str(error)) from error
    return _Model(Untrained(graphdef, one.preprocessing), everywhere(parameters))


class Written(NamedTuple):
    """The captions of one picture, the best first; that one as tokens, PAD included, and their names without it."""

    pixels: UInt8[np.ndarray, "1 Y X 3"]
    tokens: Int[np.ndarray, " T"]
    names: list[str]
    captions: list[Caption]


class _Batch(list[tuple[Any, Square | ImageError]]):
    """Pictures, each with the square that the model sees of it, or with what is wrong."""

    def pixels(self, rows: int, size: int) -> UInt8[np.ndarray, "B Y X 3"]:
        """All squares; black where there is none."""
        whole = np.zeros((rows, size, size, 3), np.uint8)
        for row, (_, square) in enumerate(self):
            if not isinstance(square, ImageError):
                whole[row] = square
        return whole


def _numbers(pixels: UInt8[np.ndarray, "B Y X 3"]) -> UInt32[np.ndarray, " B"]:
    """A number for each picture, by what is on it."""
    return np.array([zlib.crc32(picture.tobytes()) for picture in pixels], np.uint32)


def _square(asked: Any, read: Callable[[Any], Picture], size: int, framing: Framing) -> Square | ImageError:
    """What the model sees of a picture, or what is wrong with it."""
    try:
        match picture := read(asked):
            case Image.Image():
                return to_square(upright(picture), size, framing)
            case np.ndarray() | jax.Array():
                return to_square(upright(_from_array(np.asarray(picture))), size, framing)
            case bytes() | bytearray():
                return to_square(open_image(bytes(picture), size), size, framing)
            case io.BufferedIOBase() | io.RawIOBase():
                return to_square(open_image(picture.read(LARGEST) or b"", size), size, framing)
            case str() | os.PathLike():
                return to_square(open_image(content_of(Path(picture)), size), size, framing)
            case _:
                raise ImageError(f"wanted an image, an array, bytes or a path, not {type(picture).__name__}")
    except ImageError as error:
        return error
    except OSError as error:
        return ImageError(error.strerror or str(error))


def _is_named(picture: Any) -> bool:
    return isinstance(picture, str | os.PathLike)


def content_of(file: Path) -> bytes:
    """All of it. Raises ImageError for one that no picture can be as large as, for a device, which has no end, and for
    a name that no file can have."""
    try:
        told = file.stat()
    except ValueError as error:
        raise ImageError(str(error)) from error
    if stat.S_ISCHR(told.st_mode) or stat.S_ISBLK(told.st_mode):
        raise ImageError("a device, and no picture")
    if told.st_size > LARGEST:
        raise ImageError(f"more than {LARGEST // GIBIBYTE} GiB")
    return file.read_bytes()


def _from_array(pixels: np.ndarray) -> Image.Image:
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[-1] not in (3, 4)):
        batch = "; of several pictures pass a list" if pixels.ndim == 4 else ""
        raise ImageError(f"wanted uint8 of shape [Y X], [Y X 3] or [Y X 4], not {pixels.dtype} {pixels.shape}{batch}")
    if not pixels.size:
        raise ImageError("an array of no pixels")
    return Image.fromarray(pixels)
