"""Captioner = encoder + decoder: an image becomes a memory of cells, and a caption is read off it word by word."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from captioner_jax.config import ModelConfig
from captioner_jax.model.attention import KeyValue
from captioner_jax.model.decoder import Decoder
from captioner_jax.model.encoder import Encoder, make_encoder
from captioner_jax.model.layers import Linear
from captioner_jax.model.position import grid_sinusoids
from captioner_jax.model.stages import Staged


class Captioner(nnx.Module):
    r"""$$p(w_1 \ldots w_T \mid I) = \prod_t p(w_t \mid w_1 \ldots w_{t-1}, I)$$ (Vinyals et al. 2015, equation 2).

    Images are scaled to [0,1] and normalised; what they are normalised by belongs to the weights and is kept beside
    them. Images and cells are taken in any type, and computed with in that of the matrices.
    """

    def __init__(self, config: ModelConfig, vocabulary: int, *, rngs: nnx.Rngs):
        self.encoder = make_encoder(config.encoder, rngs=rngs)
        # A grid has few cells: most frequencies of the encoding hardly change across it, and the rest would be drowned.
        self.position_scale = config.position_scale
        self.into_memory = Linear(self.encoder.channels, config.width, rngs=rngs)
        self.decoder = Decoder(config, vocabulary, rngs=rngs)

    @property
    def dtype(self) -> jnp.dtype:
        """Of the matrices."""
        return self.into_memory.kernel.dtype

    def see(self, images: Float[Array, "B Y X 3"], rngs: nnx.Rngs | None = None) -> Float[Array, "B y x C"]:
        """The encoder's cells."""
        return self.encoder(images.astype(self.dtype), rngs)

    def glance(self, images: Float[Array, "B Y X 3"]) -> Float[Array, "B _ _ _"]:
        """What an encoder that is frozen, or the frozen stages of one, make of images: the same again and again."""
        cut = _where_cut(self.encoder)
        return self.encoder(images) if cut is None else cut.lower(images)

    def see_from(self, glance: Float[Array, "B _ _ _"], rngs: nnx.Rngs | None = None) -> Float[Array, "B y x C"]:
        """The encoder's cells, from what `glance` gave."""
        cut, glance = _where_cut(self.encoder), glance.astype(self.dtype)
        return glance if cut is None else cut.upper(glance, rngs)

    def contents(self, cells: Float[Array, "B y x C"]) -> Float[Array, "B y x D"]:
        """What the memory holds of cells, their places left aside."""
        return self.into_memory(cells.astype(self.dtype))

    def encode(self, cells: Float[Array, "B y x C"]) -> Float[Array, "B S D"]:
        """The memory: S = y * x cells of width D, row by row, each with its place added."""
        cells = self.contents(cells)
        batch, height, width, channels = cells.shape
        places = self.position_scale * grid_sinusoids(height, width, channels)
        cells = cells + places[None].astype(cells.dtype)
        return cells.reshape(batch, height * width, channels)

    def memory(self, cells: Float[Array, "B y x C"], rngs: nnx.Rngs | None = None) -> list[KeyValue]:
        """The memory as each decoder layer attends to it; dropout if `rngs`."""
        return self.decoder.project(self.encode(cells), rngs)

    def __call__(
        self,
        images: Float[Array, "B Y X 3"],
        inputs: Int[Array, "BG T"],
        is_word: Bool[Array, "BG T"],
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "BG T V"]:
        """Logits of each next word of G captions an image (captions of one image in a row); dropout if `rngs`."""
        return self.decoder(inputs, is_word, self.memory(self.see(images, rngs), rngs), rngs)


def _where_cut(encoder: Encoder) -> Staged | None:
    """The encoder, if its first stages are frozen and the others are not."""
    return encoder if isinstance(encoder, Staged) and encoder.frozen_stages else None
