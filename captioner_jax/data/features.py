"""What a frozen encoder, or frozen stages of one, make of a split's images: computed once, mapped from disk.

FOLDER/SPLIT/
  cells.npy        float16 [views, images, y, x, C]; the first view is that of evaluation, the others are augmented
  mirrored.npy     bool [views, images]
  problems.json    what is wrong with images of no use, by their number
  made_from.json   all that the cells depend on
"""

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tqdm
from flax import nnx
from jaxtyping import Array, Float, Float16, Float32, UInt8
from PIL import Image

from captioner_jax.config import DataConfig, EncoderConfig
from captioner_jax.data.ahead import read_ahead
from captioner_jax.data.augmentation import augment
from captioner_jax.data.images import ImageError, Preprocessing, normalise, open_image, to_square
from captioner_jax.data.pictures import side, to_keep
from captioner_jax.data.source import Example, Source
from captioner_jax.data.views import Lesson
from captioner_jax.devices import device_count, everywhere, over_images
from captioner_jax.errors import UserError
from captioner_jax.files import whole_folder
from captioner_jax.model.captioner import Captioner
from captioner_jax.model.names import stage_of

# Images that the encoder takes at a time, on each device.
BATCH = 16


def cells_of(
    captioner: Captioner,
    images: UInt8[Any, "B Y X 3"] | Lesson | Float16[Any, "B _ _ _"] | Float32[Any, "B y x C"],
    preprocessing: Preprocessing,
    rngs: nnx.Rngs | None = None,
) -> Float[Array, "B y x C"]:
    """What the encoder makes of pixels; or of features that were kept (float16); or made before (float32)."""
    shown = jnp.asarray(images.pixels if isinstance(images, Lesson) else images)
    match shown.dtype:
        case jnp.uint8:
            return captioner.see(normalise(shown, preprocessing), rngs)
        case jnp.float16:
            return captioner.see_from(shown, rngs)
        case _:
            return shown


Sight = Callable[[dict[Any, Any], Any], Float[Array, "B y x C"]]


def make_sight(graphdef: nnx.GraphDef[Captioner], preprocessing: Preprocessing) -> Sight:
    """The compiled encoder: variables of a captioner and pixels, or what `cells_of` takes in their place, to cells."""
    see = lambda parameters, images: cells_of(nnx.merge(graphdef, parameters), images, preprocessing)  # noqa: E731
    return over_images(see, whole=[0])


class Features:
    """The cells of a split's images, as `Views`."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.cells = np.load(folder / "cells.npy", mmap_mode="r")
        self.mirrored = np.load(folder / "mirrored.npy")
        self.problems: dict[str, str] = json.loads((folder / "problems.json").read_text(encoding="utf-8"))

    def __reduce__(self) -> tuple[Any, ...]:
        return Features, (self.folder,)  # a worker process maps the file anew

    def sample(self, count: int) -> Float16[np.ndarray, "N C"]:
        """At most about `count` cells: those of whole images that lie evenly among all, in their first view."""
        usable = [i for i in range(self.cells.shape[1]) if str(i) not in self.problems]
        images = min(len(usable), max(1, count // math.prod(self.cells.shape[2:4])))
        chosen = [usable[j * len(usable) // images] for j in range(images)]
        return self.cells[0, chosen].reshape(-1, self.cells.shape[-1])

    def training(self, i: int, mirror: bool, rng: np.random.Generator) -> Float16[np.ndarray, "y x C"]:
        views = np.arange(self.views) if mirror else np.flatnonzero(~self.mirrored[:, i])
        return self.view(int(rng.choice(views)), i)

    def evaluation(self, i: int, example: Example) -> Float16[np.ndarray, "y x C"]:
        return self.view(0, i)

    def nothing(self) -> Float16[np.ndarray, "y x C"]:
        return np.zeros(self.cells.shape[2:], np.float16)

    @property
    def views(self) -> int:
        return len(self.cells)

    def view(self, view: int, i: int) -> Float16[np.ndarray, "y x C"]:
        """Of image i, in one of its views. Raises ImageError where the image is of no use."""
        if str(i) in self.problems:
            raise ImageError(self.problems[str(i)])
        return np.asarray(self.cells[view, i])


class Eye(NamedTuple):
    """What of an encoder is frozen: its glance at a batch of pixels, and a mark that tells it from others."""

    glance: Callable[[UInt8[np.ndarray, "B Y X 3"]], Float[Array, "B y x C"]]
    mark: str


def make_eye(
    encoder: EncoderConfig,
    graphdef: nnx.GraphDef[Captioner],
    parameters: dict[Any, Any],
    preprocessing: Preprocessing,
) -> Eye:
    """The encoder of a captioner, or its frozen stages; `encoder` are its settings."""
    architecture = dataclasses.replace(encoder, weights=None, normalisation=None)  # told by numbers and preprocessing
    shown = dataclasses.asdict(preprocessing)
    del shown["framing"]  # which is the data's, and told by them
    settings = [dataclasses.asdict(architecture), shown]
    if "into_memory" not in parameters:
        settings += ["with the class token"]
    digest = hashlib.sha256(json.dumps(settings).encode())
    for path, leaf in jax.tree.leaves_with_path(parameters["encoder"]):
        if not encoder.frozen_stages or stage_of([entry.key for entry in path]) < encoder.frozen_stages:
            digest.update(jax.tree_util.keystr(path).encode() + np.asarray(leaf).tobytes())
    see = lambda parameters, images: nnx.merge(graphdef, parameters).glance(normalise(images, preprocessing))  # noqa: E731
    glance = over_images(see, whole=[0])
    return Eye(functools.partial(glance, everywhere(parameters)), digest.hexdigest())


def load_features(
    source: Source, split: str, config: DataConfig, eye: Eye, *, views: int, setting: str = "data.features"
) -> Features:
    """The features in `config.features`, made now if they are not there; `setting` is what people know it as.

    Raises UserError where those that are there were made from something else, and where none can be kept.
    """
    folder = Path(config.features or ".") / split
    made_from = _made_from(source, config, eye, views)
    try:
        if not folder.is_dir():
            _make(source, config, eye, folder, made_from)
        told = json.loads((folder / "made_from.json").read_text(encoding="utf-8"))
        made_before = {"framing": "middle"} | told  # which was not told as long as there was no other
        differ = [key for key in made_from if made_from[key] != made_before.get(key)]
        if differ:
            raise UserError(
                f"{setting}: {folder} was made with other {', '.join(differ)}: remove it, or name another folder"
            )
        return Features(folder)
    except OSError as error:
        raise UserError(f"{setting}: {folder}: {error}") from error
    except ValueError as error:
        raise UserError(f"{setting}: {folder} is damaged: {error}: remove it, and it is made again") from error


def _made_from(source: Source, config: DataConfig, eye: Eye, views: int) -> dict[str, Any]:
    """All that cells depend on. How images are augmented matters to the second view and later ones only."""
    images = hashlib.sha256(json.dumps(list(source.captions())).encode())  # the order: names would take all files
    for i in (0, len(source) // 2, len(source) - 1):
        images.update(source[i].name.encode(errors="surrogateescape") + source[i].image)
    made_from = {
        "encoder": eye.mark,
        "images": [len(source), images.hexdigest()],
        "framing": config.framing,
        "views": views,
    }
    if views == 1:
        return made_from
    return made_from | {key: getattr(config, key) for key in ("crop", "flip", "jitter", "randaugment", "views_seed")}


def _make(source: Source, config: DataConfig, eye: Eye, folder: Path, made_from: dict[str, Any]) -> None:
    with whole_folder(folder) as partial:
        shape = made_from["views"], len(source)
        mirrored, problems = np.zeros(shape, bool), {}
        progress = tqdm.tqdm(total=math.prod(shape), desc=f"features of {folder.name}", unit="image", disable=None)
        # Written, not mapped: what writes to a mapped file is killed by a full disk.
        with progress, open(partial / "cells.npy", "wb") as cells:
            for view, first, shown in _all_shown(source, config, made_from["views"]):
                found = _seen(eye, np.stack([one.pixels for one in shown]))
                if not cells.tell():
                    _write_head(cells, (*shape, *found.shape[1:]))
                cells.write(found.tobytes())
                mirrored[view, first : first + len(shown)] = [one.mirrored for one in shown]
                problems |= {str(first + row): one.problem for row, one in enumerate(shown) if one.problem}
                progress.update(len(shown))
        np.save(partial / "mirrored.npy", mirrored)
        (partial / "problems.json").write_text(json.dumps(problems), encoding="utf-8")
        (partial / "made_from.json").write_text(json.dumps(made_from, indent=2), encoding="utf-8")


def _write_head(file: BinaryIO, shape: tuple[int, ...]) -> None:
    """What comes before the numbers in a .npy of float16."""
    head = {"descr": np.dtype(np.float16).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, head)


class _Shown(NamedTuple):
    """What the encoder is shown of an image."""

    pixels: UInt8[np.ndarray, "Y X 3"]
    mirrored: bool = False
    problem: str = ""


def _all_shown(source: Source, config: DataConfig, views: int) -> Iterator[tuple[int, int, list[_Shown]]]:
    """View, number of the first image, and a batch of images, until each has been shown in every view."""
    for view in range(views):
        show = functools.partial(_show, source=source, config=config, view=view)
        for batch in read_ahead(range(len(source)), BATCH * device_count(), show):
            yield view, batch[0][0], [shown for _, shown in batch]


def _show(i: int, source: Source, config: DataConfig, view: int) -> _Shown:
    size = config.image_size
    try:
        picture = open_image(to_keep(source[i]), side(config))
    except ImageError as error:
        return _Shown(np.zeros((size, size, 3), np.uint8), problem=str(error))
    pixels, mirrored = pixels_of(view, i, picture, config)
    return _Shown(pixels, mirrored)


def pixels_of(view: int, i: int, picture: Image.Image, config: DataConfig) -> tuple[UInt8[np.ndarray, "Y X 3"], bool]:
    """View number `view` of image i, which is `picture`; and whether it is mirrored."""
    if view == 0:
        return to_square(picture, config.image_size, config.framing), False
    rng = np.random.default_rng([config.views_seed, view, i])
    mirrored = config.flip and bool(rng.random() < 0.5)
    pixels = augment(picture, config, False, rng)
    return pixels[:, ::-1] if mirrored else pixels, mirrored


def _seen(eye: Eye, pixels: UInt8[np.ndarray, "B Y X 3"]) -> Float16[np.ndarray, "B y x C"]:
    """The cells of a batch that may not be full, so that nothing is compiled twice."""
    full = np.zeros((BATCH * device_count(), *pixels.shape[1:]), np.uint8)
    full[: len(pixels)] = pixels
    return np.asarray(eye.glance(full), np.float16)[: len(pixels)]
