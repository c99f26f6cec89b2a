"""Captioner = encoder + decoder: an image becomes a memory of cells, and a caption is read off it word by word."""

import math

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from captioner_jax.config import ModelConfig
from captioner_jax.model.attention import KeyValue
from captioner_jax.model.bert import BertDecoder
from captioner_jax.model.decoder import Decoder
from captioner_jax.model.encoder import Encoder, make_encoder
from captioner_jax.model.gpt2 import GPT2Decoder
from captioner_jax.model.layers import Linear
from captioner_jax.model.position import grid_sinusoids
from captioner_jax.model.stages import Staged


class Captioner(nnx.Module):
    r"""$$p(w_1 \ldots w_T \mid I) = \prod_t p(w_t \mid w_1 \ldots w_{t-1}, I)$$ (Vinyals et al. 2015, equation 2).

    Images are scaled to [0,1] and normalised; what they are normalised by belongs to the weights and is kept beside
    them. Images and cells are taken in any type, and computed with in that of the matrices.

    Decoders of published captioners read what their encoders made of the class token and the cells as it is: cells are
    then one row [B 1 S C], S = 1 + y * x, nothing leads them into the memory, no places are added, and it is C wide.
    """

    def __init__(self, config: ModelConfig, vocabulary: int, *, rngs: nnx.Rngs):
        """Raises ValueError where the configuration contradicts itself."""
        is_published = config.decoder != "plain"
        self.encoder = make_encoder(config.encoder, with_class=is_published, rngs=rngs)
        # A grid has few cells: most frequencies of the encoding hardly change across it, and the rest would be drowned.
        self.position_scale = config.position_scale
        self.into_memory = None if is_published else Linear(self.encoder.channels, config.width, rngs=rngs)
        self.decoder = _make_decoder(config, self.encoder.channels, vocabulary, rngs=rngs)

    @property
    def dtype(self) -> jnp.dtype:
        """Of the matrices."""
        return self.decoder.embed.embedding.dtype

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
        """What the memory holds of cells, their places left aside; [B 1 S C] where nothing leads them into it."""
        cells = cells.astype(self.dtype)
        return cells if self.into_memory is None else self.into_memory(cells)

    def encode(self, cells: Float[Array, "B y x C"]) -> Float[Array, "B S D"]:
        """The memory: S = y * x cells of width D, row by row, each with its place added; or all tokens as they are."""
        cells = self.contents(cells)
        batch, height, width, channels = cells.shape
        if self.into_memory is None:
            return cells.reshape(batch, height * width, channels)
        places = self.position_scale * grid_sinusoids(height, width, channels)
        cells = cells + places[None].astype(cells.dtype)
        return cells.reshape(batch, height * width, channels)

    def grid(self, cells: Float[Array, "B y x C"]) -> tuple[int, int]:
        """Rows and columns of the cells in the image, which are the last of the memory; before them is a class token,
        if the decoder reads one."""
        if self.into_memory is None:
            side = math.isqrt(cells.shape[2] - 1)
            return side, side
        return cells.shape[1], cells.shape[2]

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


def _make_decoder(config: ModelConfig, channels: int, vocabulary: int, *, rngs: nnx.Rngs) -> Decoder:
    """The decoder that the configuration names, of cells of so many channels.

    Raises ValueError where it does not fuse as configured.
    """
    if config.decoder == "plain" and not config.tied:
        raise ValueError("an output matrix of its own is for decoders of published captioners: leave tied as it is")
    if config.decoder != "plain" and config.fusion != "cross":
        raise ValueError(f"a decoder of published captioners fuses by cross-attention, not by {config.fusion}")
    match config.decoder:
        case "plain":
            return Decoder(config, vocabulary, rngs=rngs)
        case "gpt2":
            return GPT2Decoder(config, channels, vocabulary, rngs=rngs)
        case "bert":
            return BertDecoder(config, channels, vocabulary, rngs=rngs)


def _where_cut(encoder: Encoder) -> Staged | None:
    """The encoder, if its first stages are frozen and the others are not."""
    return encoder if isinstance(encoder, Staged) and encoder.frozen_stages else None
