"""A split's pictures by number: decoded from their files each time, or once and for all into a cache."""

import hashlib
import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import tqdm
from PIL import Image

from captioner_jax.config import DataConfig
from captioner_jax.data.images import ImageError, open_image
from captioner_jax.data.source import Example, Source
from captioner_jax.errors import OutageError, UserError
from captioner_jax.files import whole_folder


@runtime_checkable
class Pictures(Protocol):
    """Upright RGB pictures, none smaller than it must be for the model's square."""

    def read(self, i: int) -> Image.Image:
        """Picture i. Raises ImageError where it is of no use."""
        ...


class Decoded:
    """Pictures decoded from their files."""

    def __init__(self, source: Source, smallest: int):
        self.source = source
        self.smallest = smallest

    def read(self, i: int) -> Image.Image:
        return open_image(self.source[i].image, self.smallest)


class Cache:
    """Pictures as they were decoded and scaled down once, mapped from disk."""

    def __init__(self, folder: Path):
        with np.load(folder / "index.npz") as index:
            self.sizes = index["sizes"]
            """Height and width of each; 0 where the picture is of no use."""
            self.begin = index["begin"]
        self.problems: dict[str, str] = json.loads((folder / "problems.json").read_text(encoding="utf-8"))
        self.pixels = np.memmap(folder / "pixels", np.uint8, "r")
        self.folder = folder

    def __reduce__(self) -> tuple[type["Cache"], tuple[Path]]:
        return Cache, (self.folder,)  # a worker process maps the file anew, rather than be sent all of it

    def read(self, i: int) -> Image.Image:
        height, width = self.sizes[i]
        if not height:
            raise ImageError(self.problems[str(i)])
        pixels = self.pixels[self.begin[i] : self.begin[i] + height * width * 3]
        return Image.fromarray(np.asarray(pixels).reshape(height, width, 3))


def training_pictures(source: Source, config: DataConfig) -> Pictures:
    """From `config.cache`, made now if it is not there; or straight from the files where no cache is asked for.

    Raises UserError where the cache cannot be kept.
    """
    if config.cache is None:
        return Decoded(source, side(config))
    folder = Path(config.cache) / _fingerprint(source, config)
    try:
        if not folder.is_dir():
            _make(source, config, folder)
        return Cache(folder)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"data.cache: {folder}: {error}") from error


def side(config: DataConfig) -> int:
    """The shorter side at which the smallest crop still has a pixel for each of the model's."""
    return math.ceil(config.image_size / math.sqrt(config.crop))


def scaled(image: Image.Image, shorter: int) -> Image.Image:
    """The picture, its shorter side scaled down to `shorter`; one that is smaller stays as it is."""
    share = shorter / min(image.size)
    if share >= 1:
        return image
    width, height = (max(shorter, round(share * length)) for length in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def to_keep(example: Example) -> bytes:
    """Its file, for what is kept of it for good. Raises OutageError where that cannot be read now."""
    if example.lost is not None:
        raise OutageError(
            f"{example.name}: {example.lost}: what is kept of images cannot be made while their files are not to be "
            "had; one that stays so is to be removed"
        )
    return example.image


def _make(source: Source, config: DataConfig, folder: Path) -> None:
    shorter = side(config)

    def picture(i: int) -> np.ndarray | str:
        try:
            return np.asarray(scaled(open_image(to_keep(source[i]), shorter), shorter))
        except ImageError as error:
            return str(error)

    with whole_folder(folder) as partial:
        sizes, problems = np.zeros((len(source), 2), np.int64), {}
        progress = tqdm.tqdm(total=len(source), desc="decoding into the cache", unit="image", disable=None)
        with progress, ThreadPoolExecutor() as pool, open(partial / "pixels", "wb") as file:
            for start in range(0, len(source), 256):  # so that no more than these wait to be written
                some = range(start, min(start + 256, len(source)))
                for i, pixels in zip(some, pool.map(picture, some), strict=True):
                    if isinstance(pixels, str):
                        problems[str(i)] = pixels
                    else:
                        sizes[i] = pixels.shape[:2]
                        file.write(pixels.tobytes())
                progress.update(len(some))
        begin = np.concatenate([[0], np.cumsum(sizes.prod(1) * 3)[:-1]])
        np.savez(partial / "index.npz", sizes=sizes, begin=begin)
        (partial / "problems.json").write_text(json.dumps(problems), encoding="utf-8")


def _fingerprint(source: Source, config: DataConfig) -> str:
    """Of what tells one cache from another: where the pictures come from, which they are, how they are scaled."""
    place = Path(config.path).resolve() if config.path else None
    what = [config.source, str(place), config.data_dir, config.images, config.tfds.name, config.tfds.train]
    some = [source[0].name, source[len(source) - 1].name, list(source.captions())]  # names would take all files
    return hashlib.sha256(json.dumps([*what, *some, side(config)]).encode()).hexdigest()[:16]
