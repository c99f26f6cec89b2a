"""ResNet (He et al. 2015, "Deep Residual Learning for Image Recognition")."""

import math
from typing import NamedTuple

import jax
from flax import nnx
from jaxtyping import Array, Float

from captioner_jax.config import EncoderConfig
from captioner_jax.model.convolutions import ConvNorm, max_pool
from captioner_jax.model.stages import Staged, first_stages

# Table 1: blocks of conv2_x ... conv5_x, and the width of the 3x3 convolutions there.
BLOCKS = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
    "resnet152": (3, 8, 36, 3),
}
WIDTHS = (64, 128, 256, 512)


class Row(NamedTuple):
    """A convolution of a block, as table 1 writes it."""

    size: int
    width: int
    stride: int = 1


def rows(config: EncoderConfig, width: int, stride: int) -> list[Row]:
    """The convolutions of a block: basic, or a bottleneck (figure 5, left and right).

    A bottleneck's stride is in its first 1x1 (version 1, the paper's) or in its 3x3 (version 1.5, torchvision's).
    """
    if config.kind in ("resnet18", "resnet34"):
        return [Row(3, width, stride), Row(3, width)]
    first, second = (stride, 1) if config.resnet_version == "1" else (1, stride)
    return [Row(1, width, first), Row(3, width, second), Row(1, 4 * width)]


class ResidualBlock(nnx.Module):
    r"""$$\mathrm{relu}(\mathcal{F}(x) + W_s x)$$ (equation 2), F convolutions with relu between them.

    W_s is the identity where x already is as wide as F(x), and otherwise a strided 1x1 convolution (option B).
    """

    def __init__(self, into: int, rows: list[Row], *, trained: bool, rngs: nnx.Rngs):
        widths = [into] + [row.width for row in rows]
        self.convolutions = nnx.List(
            ConvNorm(width, row.width, row.size, stride=row.stride, trained=trained, rngs=rngs)
            for width, row in zip(widths, rows, strict=False)
        )
        out, stride = widths[-1], math.prod(row.stride for row in rows)
        projected = into != out
        self.shortcut = ConvNorm(into, out, 1, stride=stride, trained=trained, rngs=rngs) if projected else None

    def __call__(self, x: Float[Array, "B Y X C"], rngs: nnx.Rngs | None = None) -> Float[Array, "B y x D"]:
        *inner, last = self.convolutions
        h = x
        for convolution in inner:
            h = jax.nn.relu(convolution(h, rngs))
        return jax.nn.relu(last(h, rngs) + (x if self.shortcut is None else self.shortcut(x, rngs)))


class ResNet(Staged):
    """A 7x7 convolution, max pooling, then stages of residual blocks; each after the first halves the grid.

    The stages are conv2_x ... conv5_x, at 1/4, 1/8, 1/16 and 1/32 of the image's side.
    """

    def __init__(self, config: EncoderConfig, *, rngs: nnx.Rngs):
        """Raises ValueError where `ends_after` or `frozen_stages` is more than the four stages allow."""
        trained = config.batch_norm == "trained"
        self.stem = ConvNorm(3, WIDTHS[0], 7, stride=2, trained=trained, rngs=rngs)
        self.channels = WIDTHS[0]
        stages: list[nnx.List[ResidualBlock]] = []
        for count, width in first_stages(list(zip(BLOCKS[config.kind], WIDTHS, strict=True)), config):
            blocks: list[ResidualBlock] = []
            for i in range(count):
                block = rows(config, width, stride=2 if stages and i == 0 else 1)
                blocks.append(ResidualBlock(self.channels, block, trained=trained, rngs=rngs))
                self.channels = block[-1].width
            stages.append(nnx.List(blocks))
        self.blocks = nnx.List(stages)
        self.set_depth(len(stages), config)

    def enter(self, images: Float[Array, "B Y X 3"], rngs: nnx.Rngs | None) -> Float[Array, "B y x C"]:
        """conv1, and the pooling that conv2_x begins with."""
        return max_pool(jax.nn.relu(self.stem(images, rngs)), 3, stride=2, padding=1)

    def stage(self, i: int, x: Float[Array, "B Y X C"], rngs: nnx.Rngs | None) -> Float[Array, "B y x D"]:
        """A row of table 1."""
        for block in self.blocks[i]:
            x = block(x, rngs)
        return x
