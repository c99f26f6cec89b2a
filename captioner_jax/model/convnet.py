"""The small convolutional encoder that is trained from scratch: pixels in, a grid of cells out."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PRNGKeyArray

from captioner_jax.config import EncoderConfig
from captioner_jax.model.layers import GroupNorm, Linear
from captioner_jax.model.rematerialisation import Stack

# Sum and differences of red, green and blue, orthonormal: brightness, and the two opponent colours.
OPPONENT = np.array([[1, 1, 1], [1, -1, 0], [1, 1, -2]]) / np.sqrt([[3], [2], [6]])


def cosines(size: int) -> np.ndarray:
    r"""$$D_{ux} = c_u \cos\frac{\pi (2x + 1) u}{2n}, \qquad c_0 = \sqrt{1/n},\ c_u = \sqrt{2/n}$$ [n n], orthonormal.

    The discrete cosine transform (Ahmed, Natarajan and Rao 1974).
    """
    u, x = np.mgrid[0:size, 0:size]
    return np.sqrt(np.where(u == 0, 1, 2) / size) * np.cos(np.pi * (2 * x + 1) * u / (2 * size))


def whitening_cosines(
    key: PRNGKeyArray, shape: Sequence[int], dtype: DTypeLike = jnp.float32
) -> Float[Array, "side side 3 C"]:
    r"""Filters to begin a stem with, those of the largest spread sigma first:

    $$w_{uvk} = D_u \otimes D_v \otimes O_k \,/\, \sigma_{uvk}$$

    Each answers to one frequency (u, v) of brightness or of an opponent colour k, so loudly that all vary alike over
    natural images, whose spread sigma falls as 1 / frequency (Field 1987, "Relations between the statistics of natural
    images and the response properties of cortical cells") and is about a third as large in the colours. Without this
    what a network is first told of is brightness and colour, and outlines only when these are learnt. Nothing is
    random here. Of 64 filters at 8x8, 48 are of brightness. More channels than there are filters get them again, with
    the other sign; raises ValueError for more than twice as many.
    """
    side, _, colours, channels = shape
    if channels > 2 * side * side * colours:
        raise ValueError(f"a stem of {side}x{side} pixels has no {channels} different filters")
    u, v, k = np.mgrid[0:side, 0:side, 0:colours]
    spread = np.where(k == 0, 3, 1) / (np.hypot(u, v) + 0.25)
    waves = cosines(side)
    loudest = np.argsort(-spread.ravel(), kind="stable")[:channels]
    u, v, k = (axis.ravel()[loudest] for axis in (u, v, k))
    filters = np.einsum("f,fy,fx,fc->fyxc", 1 / spread.ravel()[loudest], waves[u], waves[v], OPPONENT[k])
    both = np.concatenate([filters, -filters])
    return jnp.asarray(both[:channels].transpose(1, 2, 3, 0), dtype)


def space_to_depth(x: Float[Array, "B Y X C"], block: int) -> Float[Array, "B y x c"]:
    """Each block of pixels becomes one cell: [B Y X C] -> [B Y/b X/b b*b*C].

    Followed by a linear map this is a convolution of size and stride `block`, in a form whose gradient is again a
    plain matrix product, where XLA's gradient of a strided convolution is slow on CPU. Raises
    ValueError where `block` does not divide Y and X.
    """
    images, height, width, channels = x.shape
    if height % block or width % block:
        raise ValueError(f"an image of {height}x{width} pixels does not divide into blocks of {block}x{block}")
    x = x.reshape(images, height // block, block, width // block, block, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(images, height // block, width // block, -1)


def group_norm(channels: int, rngs: nnx.Rngs) -> GroupNorm:
    """Groups of 16 channels are normalised within an image (Wu and He 2018, "Group Normalization").

    So an image's features depend on no other image and on no running statistics. Raises ValueError where `channels`
    is no multiple of 16.
    """
    if channels % 16:
        raise ValueError(f"{channels} channels do not divide into groups of 16")
    return GroupNorm(channels, num_groups=channels // 16, rngs=rngs)


class ResidualBlock(nnx.Module):
    r"""$$x + \mathcal{F}(x), \qquad \mathcal{F} = \mathrm{conv} \circ \mathrm{relu} \circ \mathrm{norm} \circ
    \mathrm{conv} \circ \mathrm{relu} \circ \mathrm{norm}$$

    with the identity left untouched (He et al. 2016, "Identity Mappings in Deep Residual Networks", equation 1 and
    figure 1b).
    """

    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        self.norm_1 = group_norm(channels, rngs)
        self.conv_1 = nnx.Conv(channels, channels, (3, 3), use_bias=False, rngs=rngs)
        self.norm_2 = group_norm(channels, rngs)
        self.conv_2 = nnx.Conv(channels, channels, (3, 3), rngs=rngs)

    def __call__(self, x: Float[Array, "B y x C"]) -> Float[Array, "B y x C"]:
        h = self.conv_1(jax.nn.relu(self.norm_1(x)))
        return x + self.conv_2(jax.nn.relu(self.norm_2(h)))


class Shrink(nnx.Module):
    """The grid halved: blocks of 2x2 cells, normalised, become one cell each."""

    def __init__(self, channels: int, into: int, *, rngs: nnx.Rngs):
        self.norm = group_norm(channels, rngs)
        self.linear = Linear(4 * channels, into, rngs=rngs)

    def __call__(self, x: Float[Array, "B Y X C"]) -> Float[Array, "B y x c"]:
        return self.linear(space_to_depth(jax.nn.relu(self.norm(x)), 2))


class ConvNet(Stack):
    """A strided convolution, then a stage of residual blocks for each of the widths, the grid halved between stages.

    What comes out is normalised over the image and rectified, so that cells of plain background stay small. Normalised
    a cell at a time they would be as long as those of objects, and early attention, which is even, would drown in them.
    """

    def __init__(self, config: EncoderConfig, *, rngs: nnx.Rngs):
        """Raises ValueError where `widths` and `blocks` tell of different numbers of stages, or of none."""
        if len(config.widths) != len(config.blocks) or not config.widths:
            raise ValueError(f"{len(config.widths)} widths for {len(config.blocks)} stages of blocks")
        side = 2 * config.stem
        self.stem = nnx.Conv(
            3, config.widths[0], (side, side), strides=config.stem, kernel_init=whitening_cosines, rngs=rngs
        )
        layers: list[Shrink | ResidualBlock] = []
        for stage, (width, blocks) in enumerate(zip(config.widths, config.blocks, strict=True)):
            if stage:
                layers.append(Shrink(config.widths[stage - 1], width, rngs=rngs))
            layers += [ResidualBlock(width, rngs=rngs) for _ in range(blocks)]
        self.layers = nnx.List(layers)
        self.channels = config.widths[-1]
        self.norm = group_norm(self.channels, rngs)

    def __call__(self, images: Float[Array, "B Y X 3"], rngs: nnx.Rngs | None = None) -> Float[Array, "B y x C"]:
        """The same in training (`rngs`) as elsewhere."""
        x = self.stem(images)
        for layer in self.layers:
            x = self.through(type(layer).__call__, layer, x)
        return jax.nn.relu(self.norm(x))
