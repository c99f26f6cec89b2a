"""Training images changed at random, in ways that leave their captions true."""

from collections.abc import Callable

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageEnhance, ImageOps

from captioner_jax.config import DataConfig
from captioner_jax.data.images import to_square

# ImageNet's mean colour: what a moved picture leaves uncovered.
GREY = (124, 116, 104)


def augment(
    image: Image.Image, config: DataConfig, mirror: bool, rng: np.random.Generator
) -> UInt8[np.ndarray, "Y X 3"]:
    """A random part of an image, scaled to the model's square, then changed as the configuration asks.

    `mirror` says whether it may be mirrored, which a caption that tells left from right forbids. With nothing asked
    for it is what evaluation sees.
    """
    if config.crop == 1:
        image = Image.fromarray(to_square(image, config.image_size, config.framing))
    else:
        image = crop(image, config, rng)
    if config.flip and mirror and rng.random() < 0.5:
        image = ImageOps.mirror(image)
    if config.randaugment > 0:
        image = randaugment(image, config.randaugment, rng)
    if config.jitter > 0:
        image = jitter(image, config.jitter, rng)
    return np.asarray(image)


def crop(image: Image.Image, config: DataConfig, rng: np.random.Generator) -> Image.Image:
    """A part drawn with `crop` to 1 of the area at an aspect ratio of 3:4 to 4:3; what sticks out is cut off.

    Where the whole is squeezed into a square, the ratio is that of the part in this square. Szegedy et al. 2015, "Going
    Deeper with Convolutions", section 6, with a gentler smallest area.
    """
    area = rng.uniform(config.crop, 1) * image.width * image.height
    aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
    if config.framing == "whole":
        aspect *= image.width / image.height
    width = min(image.width, np.sqrt(area * aspect))
    height = min(image.height, np.sqrt(area / aspect))
    left, top = rng.uniform(0, image.width - width), rng.uniform(0, image.height - height)
    size = (config.image_size, config.image_size)
    return image.resize(size, Image.Resampling.BICUBIC, box=(left, top, left + width, top + height))


def jitter(image: Image.Image, most: float, rng: np.random.Generator) -> Image.Image:
    """Brightness, contrast and saturation by factors of 1 - most to 1 + most, in a random order.

    Krizhevsky et al. 2012 changed colours first; in this form it is Howard's (2013, "Some Improvements on Deep
    Convolutional Neural Network Based Image Classification", section 2.2).
    """
    changes = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for i in rng.permutation(len(changes)):
        image = changes[i](image).enhance(rng.uniform(1 - most, 1 + most))
    return image


def randaugment(image: Image.Image, strength: float, rng: np.random.Generator) -> Image.Image:
    """Two changes, drawn from twelve with equal chances, at one strength M of 10.

    Cubuk et al. 2020, "RandAugment: Practical automated data augmentation with a reduced search space", section 3;
    what M = 10 amounts to is theirs, from AutoAugment (Cubuk et al. 2019, table 6). Left out are solarize and
    posterize, which give things other colours than their captions say.
    """
    for i in rng.integers(len(CHANGES), size=2):
        image = CHANGES[i](image, strength / 10 * (1.0 if rng.random() < 0.5 else -1.0))
    return image


def _sheared(image: Image.Image, x: float, y: float) -> Image.Image:
    return _moved(image, (1.0, x, -x * image.height / 2, y, 1.0, -y * image.width / 2))


def _moved(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=GREY)


# Each takes a picture and a strength from -1 to 1.
CHANGES: tuple[Callable[[Image.Image, float], Image.Image], ...] = (
    lambda image, m: image,
    lambda image, m: ImageOps.autocontrast(image),
    lambda image, m: ImageOps.equalize(image),
    lambda image, m: image.rotate(30 * m, Image.Resampling.BILINEAR, fillcolor=GREY),
    lambda image, m: _sheared(image, 0.3 * m, 0.0),
    lambda image, m: _sheared(image, 0.0, 0.3 * m),
    lambda image, m: _moved(image, (1.0, 0.0, 0.45 * m * image.width, 0.0, 1.0, 0.0)),
    lambda image, m: _moved(image, (1.0, 0.0, 0.0, 0.0, 1.0, 0.45 * m * image.height)),
    lambda image, m: ImageEnhance.Color(image).enhance(1 + 0.9 * m),
    lambda image, m: ImageEnhance.Contrast(image).enhance(1 + 0.9 * m),
    lambda image, m: ImageEnhance.Brightness(image).enhance(1 + 0.9 * m),
    lambda image, m: ImageEnhance.Sharpness(image).enhance(1 + 0.9 * m),
)
