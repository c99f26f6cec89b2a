"""Sinusoidal positional encodings: 1-D for words, 2-D for the grid of image cells."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def sinusoids(positions: Int[Array, " T"], width: int) -> Float[Array, "T D"]:
    r"""$$PE_{(pos, 2i)} = \sin\frac{pos}{10000^{2i/D}}, \qquad PE_{(pos, 2i+1)} = \cos\frac{pos}{10000^{2i/D}}$$

    (Vaswani et al. 2017, section 3.5). Raises ValueError where `width` D is odd.
    """
    if width % 2:
        raise ValueError(f"sines and cosines come in pairs: a width of {width} is odd")
    frequencies = 10000.0 ** (-jnp.arange(0, width, 2, dtype=jnp.float32) / width)
    angles = positions.astype(jnp.float32)[:, None] * frequencies[None, :]
    return jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-1).reshape(len(positions), width)


def grid_sinusoids(height: int, width: int, channels: int) -> Float[Array, "y x D"]:
    r"""$$PE_{(y, x)} = [\,PE_y;\ PE_x\,]$$ the first half of the D channels tells the row, the second the column.

    The 1-D formula applied to each axis, as for images in Parmar et al. 2018, "Image Transformer", section 3.
    Raises ValueError where `channels` D is not a multiple of 4.
    """
    if channels % 4:
        raise ValueError(f"rows and columns each take pairs of channels: {channels} is no multiple of 4")
    rows = sinusoids(jnp.arange(height), channels // 2)[:, None, :]
    columns = sinusoids(jnp.arange(width), channels // 2)[None, :, :]
    shape = (height, width, channels // 2)
    return jnp.concatenate([jnp.broadcast_to(rows, shape), jnp.broadcast_to(columns, shape)], axis=-1)
