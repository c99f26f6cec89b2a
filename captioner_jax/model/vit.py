"""Vision Transformers (Dosovitskiy et al. 2020, "An Image is Worth 16x16 Words"), CLIP's and BLIP's image towers."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from captioner_jax.config import EncoderConfig
from captioner_jax.model.attention import MultiHeadAttention
from captioner_jax.model.convnet import space_to_depth
from captioner_jax.model.layers import Activation, LayerNorm, Linear, gelu
from captioner_jax.model.rematerialisation import Stack


class Size(NamedTuple):
    """A row of a table: pixels of a patch's side, then D, N and L; pixels of the side of images trained on."""

    patch: int
    width: int
    heads: int
    layers: int
    side: int = 224


# S: Touvron et al. 2020, table 1. B and L: Dosovitskiy et al. 2020, table 1. CLIP: Radford et al. 2021, table 20.
# BLIP: Li et al. 2022, "Bootstrapping Language-Image Pre-training", section 4.1.
SIZES = {
    "vit_s16": Size(16, 384, 6, 12),
    "vit_b16": Size(16, 768, 12, 12),
    "clip_b32": Size(32, 768, 12, 12),
    "clip_b16": Size(16, 768, 12, 12),
    "clip_l14": Size(14, 1024, 16, 24),
    "blip_b16": Size(16, 768, 12, 12, side=384),
    "blip_l16": Size(16, 1024, 16, 24, side=384),
}


def quick_gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    r"""$$x\, \sigma(1.702\, x)$$ (Hendrycks and Gimpel 2016, section 2), as CLIP was trained with."""
    return x * jax.nn.sigmoid(1.702 * x)


class EncoderBlock(nnx.Module):
    r"""$$z' = z + \mathrm{MSA}(\mathrm{LN}(z)), \qquad z'' = z' + \mathrm{MLP}(\mathrm{LN}(z'))$$

    (Dosovitskiy et al. 2020, equations 2 and 3), the MLP four times as wide within.
    """

    def __init__(
        self,
        size: Size,
        activation: Activation,
        epsilon: float,
        *,
        rngs: nnx.Rngs,
    ):
        self.norm_1 = LayerNorm(size.width, epsilon=epsilon, rngs=rngs)
        self.attention = MultiHeadAttention(size.width, size.heads, bias=True, rngs=rngs)
        self.norm_2 = LayerNorm(size.width, epsilon=epsilon, rngs=rngs)
        self.linear_1 = Linear(size.width, 4 * size.width, rngs=rngs)
        self.linear_2 = Linear(4 * size.width, size.width, rngs=rngs)
        self.activation = activation

    def __call__(self, z: Float[Array, "B S D"]) -> Float[Array, "B S D"]:
        h = self.norm_1(z)
        z = z + self.attention(h, self.attention.project(h))
        return z + self.linear_2(self.activation(self.linear_1(self.norm_2(z))))


class ViT(Stack):
    r"""$$z_0 = [x_{class};\ x_1 E;\ \ldots;\ x_S E] + E_{pos}$$ (Dosovitskiy et al. 2020, equation 1), then blocks.

    The cells are what becomes of the patches x_s; the class token is only looked at. `vit_*` and `blip_*` normalise the
    cells after their last block (equation 4), not where `ends_after` stops before it. CLIP normalises all tokens before
    the first block (Radford et al. 2021, section 2.4), and its cells are taken as a block leaves them, since its last
    norm was trained on the class token alone.
    """

    def __init__(self, config: EncoderConfig, *, with_class: bool = False, rngs: nnx.Rngs):
        """`with_class` gives the class token and the cells, row by row, as one row: [B 1 S C], S = 1 + y * x.

        Raises ValueError where `ends_after` is more than there are blocks.
        """
        size = SIZES[config.kind]
        is_clip = config.kind.startswith("clip")
        layers = size.layers if config.ends_after is None else config.ends_after
        if layers > size.layers:
            raise ValueError(f"{config.kind} has {size.layers} blocks and cannot end after {layers}")
        epsilon = 1e-6 if config.kind.startswith("vit") else 1e-5
        spread = nnx.initializers.normal(0.02)
        self.patch, self.learned = size.patch, size.side // size.patch
        self.channels = size.width
        self.with_class = with_class
        self.patches = Linear(size.patch**2 * 3, size.width, use_bias=not is_clip, rngs=rngs)
        self.class_token = nnx.Param(spread(rngs.params(), (size.width,)))
        self.positions = nnx.Param(spread(rngs.params(), (1 + self.learned**2, size.width)))
        self.norm_before = LayerNorm(size.width, epsilon=epsilon, rngs=rngs) if is_clip else None
        activation = quick_gelu if is_clip else gelu
        self.blocks = nnx.List([EncoderBlock(size, activation, epsilon, rngs=rngs) for _ in range(layers)])
        is_whole = layers == size.layers and not is_clip
        self.norm = LayerNorm(size.width, epsilon=epsilon, rngs=rngs) if is_whole else None

    def stages(self, images: Float[Array, "B Y X 3"], rngs: nnx.Rngs | None = None) -> list[Float[Array, "B y x C"]]:
        """The cells after each block, the last ones normalised where `__call__` does so; the same in training.

        Raises ValueError where the image does not divide into patches.
        """
        patches = self.patches(space_to_depth(images, self.patch))
        grid = patches.shape
        class_token = jnp.broadcast_to(self.class_token[...], (grid[0], 1, self.channels))
        z = jnp.concatenate([class_token, patches.reshape(grid[0], -1, self.channels)], axis=1)
        z = z + self.places(grid[1], grid[2])[None]
        z = z if self.norm_before is None else self.norm_before(z)
        cells = []
        for block in self.blocks:
            z = self.through(EncoderBlock.__call__, block, z)
            cells.append(z[:, None] if self.with_class else z[:, 1:].reshape(grid))
        return cells if self.norm is None else [*cells[:-1], self.norm(cells[-1])]

    def __call__(self, images: Float[Array, "B Y X 3"], rngs: nnx.Rngs | None = None) -> Float[Array, "B y x C"]:
        return self.stages(images, rngs)[-1]

    def places(self, height: int, width: int) -> Float[Array, "S D"]:
        """Of the class token, then of the cells row by row.

        Where the grid is not the one trained on, places are interpolated (Dosovitskiy et al. 2020, section 3.2), by
        cubics with a = -0.5 (Keys 1981), where PyTorch takes -0.75.
        """
        first, cells = self.positions[...][:1], self.positions[...][1:]
        if (height, width) == (self.learned, self.learned):
            return jnp.asarray(self.positions[...])
        grid = cells.reshape(self.learned, self.learned, -1)
        resized = jax.image.resize(grid, (height, width, self.channels), "bicubic", antialias=False)
        return jnp.concatenate([first, resized.reshape(height * width, -1)])
