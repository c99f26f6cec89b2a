"""Image files to arrays: decoding, orientation, RGB, the square that the model sees, normalisation."""

import contextlib
import dataclasses
import io
import warnings
from collections.abc import Iterator
from typing import Annotated

import jax.numpy as jnp
import numpy as np
import pydantic
from annotated_types import Gt
from jaxtyping import Array, Float, UInt8
from PIL import Image, ImageOps, JpegImagePlugin

from captioner_jax.config import Framing, Side

try:
    import pillow_heif  # the extra `heic`

    pillow_heif.register_heif_opener()
except ImportError:
    pass

# Pillow warns at half the size that it refuses, and of odd EXIF data: here once, since what silences a block silences
# other threads, too. Whoever wants to be warned is heard first.
warnings.filterwarnings("ignore", module=r"PIL\.", append=True)

# Pixels that a JPEG may have: those of telephones have 200 million, and are decoded at an eighth of their sides. (Of a
# progressive one all coefficients are held, two bytes and more a pixel.)
MOST_OF_JPEG = 400_000_000
_JPEG = b"\xff\xd8\xff"
# What an EPS begins with: a program in PostScript, for which Pillow starts Ghostscript.
_PROGRAM = (b"%!PS", b"\xc5\xd0\xd3\xc6")
# What telephones write begins with a box that names its kind.
_HEIC = (b"ftypheic", b"ftypheix", b"ftyphevc")
# Mean and standard deviation of ImageNet's pixels in [0,1], the field's usual choice for photographs.
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)


Wide = Annotated[float, Gt(0)]


class ImageError(ValueError):
    """An image that cannot be used, and why."""


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What happens to an image between its file and the model; it travels with the weights."""

    __pydantic_config__ = pydantic.ConfigDict(extra="forbid", allow_inf_nan=False)

    image_size: Side
    mean: tuple[float, float, float] = MEAN
    deviation: tuple[Wide, Wide, Wide] = DEVIATION
    framing: Framing = "middle"


def open_image(data: bytes, smallest: int) -> Image.Image:
    """The picture in an encoded file, upright and in RGB.

    JPEGs may come at a reduced size, with no side below twice `smallest`, which is faster to decode. Transparent
    pixels are laid over white; of an animation the first frame is taken. Raises ImageError for what is empty, is no
    image, is damaged, or has more pixels than Pillow holds to be safe (179 million; a JPEG, of which so many are never
    decoded, may have 400), and for EPS, which is a program that would have to be run.
    """
    if not data:
        raise ImageError("the file is empty, gone or unreadable")
    if data.startswith(_PROGRAM):
        raise ImageError("EPS, which is a program, and not run here: save it as PNG or JPEG")
    if data[4:12] in _HEIC and "HEIF" not in Image.OPEN:
        raise ImageError("HEIC, which pip install 'captioner-jax[heic]' lets be read: or save it as JPEG")
    with _refusing():
        image = begun(data)
        image.draft("RGB", (2 * smallest, 2 * smallest))
        if Image.MAX_IMAGE_PIXELS and image.width * image.height > 2 * Image.MAX_IMAGE_PIXELS:  # a JPEG, wanted whole
            raise Image.DecompressionBombError
        return _rgb(ImageOps.exif_transpose(image))


def begun(data: bytes) -> Image.Image:
    """The image in an encoded file, its pixels still to be decoded. Raises what Pillow raises."""
    if not data.startswith(_JPEG):
        return Image.open(io.BytesIO(data))
    image = JpegImagePlugin.jpeg_factory(io.BytesIO(data))
    if image.width * image.height > MOST_OF_JPEG:
        raise Image.DecompressionBombError
    return image


def upright(image: Image.Image) -> Image.Image:
    """The picture as it was taken, in RGB. Raises ImageError as `open_image`: its file may still be to be read."""
    if not image.width * image.height:
        raise ImageError("an image of no pixels")
    with _refusing():
        return _rgb(ImageOps.exif_transpose(image))


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """Makes ImageErrors of what Pillow raises."""
    try:
        yield
    except Image.DecompressionBombError as error:
        raise ImageError("the image has more than 179 million pixels; JPEGs may have 400 million") from error
    except Image.UnidentifiedImageError as error:
        raise ImageError("not an image, or of a kind that Pillow cannot read") from error
    except NotImplementedError as error:
        raise ImageError(f"of a kind that Pillow cannot read: {error}") from error
    except Exception as error:  # of whatever kind: Pillow has many for damaged files
        raise ImageError(f"the image is damaged: {error or type(error).__name__}") from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return Image.fromarray(_to_bytes(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _to_bytes(grey: np.ndarray) -> np.ndarray:
    """Grey values in 0..255 from integers of 16 bits; of 8, where those of 32 reach no further; or from others, whose
    largest value is taken for white."""
    if np.issubdtype(grey.dtype, np.integer):
        is_small = grey.dtype.itemsize > 2 and grey.max() <= 255
        return (np.clip(grey, 0, 255) if is_small else np.clip(grey, 0, 65535) // 257).astype(np.uint8)
    grey = np.maximum(np.nan_to_num(grey, posinf=0.0), 0)
    return (np.minimum(grey / max(float(grey.max()), 1e-9), 1) * 255).astype(np.uint8)


def to_square(image: Image.Image, size: int, framing: Framing) -> UInt8[np.ndarray, "Y X 3"]:
    """The middle of the image, its shorter side scaled to `size`; or the whole, each side scaled to it.

    It is the one transform of evaluation and of use.
    """
    fit = Image.Image.resize if framing == "whole" else ImageOps.fit
    return np.asarray(fit(image, (size, size), Image.Resampling.BICUBIC))


def seen_of(width: int, height: int, framing: Framing) -> tuple[float, float, float, float]:
    """What `to_square` shows of an image: left and top edge, width and height, in pixels of the image."""
    if framing == "whole":
        return 0.0, 0.0, float(width), float(height)
    side = min(width, height)
    return (width - side) / 2, (height - side) / 2, float(side), float(side)


def normalise(pixels: UInt8[Array, "B Y X 3"], how: Preprocessing) -> Float[Array, "B Y X 3"]:
    """Pixels scaled to [0,1], then centred and scaled a channel at a time; cheap enough to do on the device."""
    image = pixels.astype(jnp.float32) / 255
    return (image - jnp.asarray(how.mean)[None, None, None]) / jnp.asarray(how.deviation)[None, None, None]
