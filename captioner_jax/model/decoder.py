"""The Transformer decoder: words so far and an image's memory in, logits of the next word out."""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from captioner_jax.config import ModelConfig
from captioner_jax.model.attention import KeyValue, causal_mask, padding_mask
from captioner_jax.model.fusion import Looks, make_block
from captioner_jax.model.layers import LayerNorm, dropout
from captioner_jax.model.position import sinusoids
from captioner_jax.model.rematerialisation import Stack

# An int, or an expression where an export leaves the size open.
Size = Any


class Cache(NamedTuple):
    """What G groups of K sequences have decoded so far: each layer's keys and values, one store a group.

    A store has P = T * K places, for all words of its group, those of one position side by side. Which of them are a
    sequence's past is told by `past`: a sequence that goes on from another looks where that one looked, and keys and
    values stay where they are.
    """

    layers: list[KeyValue]
    past: Bool[Array, "G K P"]
    length: Int[Array, ""]

    def follow(self, parents: Int[Array, "G K"]) -> "Cache":
        """Each sequence goes on from the past of another of its group, its parent."""
        return self._replace(past=jnp.take_along_axis(self.past, parents[:, :, None], axis=1))


class Decoder(Stack):
    """Word embedding, L blocks, and the same embedding as output matrix (Vaswani et al. 2017, section 3.4)."""

    output_columns: nnx.Param | None = None
    """The output matrix's transpose, where it is laid down for writing."""

    def __init__(self, config: ModelConfig, vocabulary: int, *, rngs: nnx.Rngs):
        spread = nnx.initializers.normal(stddev=config.width**-0.5)
        self.embed = nnx.Embed(vocabulary, config.width, embedding_init=spread, rngs=rngs)
        self.blocks = nnx.List([make_block(config, rngs=rngs) for _ in range(config.layers)])
        self.norm = LayerNorm(config.width, rngs=rngs)
        self.dropout = config.dropout

    def project(self, memory: Float[Array, "B S D"], rngs: nnx.Rngs | None = None) -> list[KeyValue]:
        """The memory's keys and values for each layer: once an image, whatever is decoded from it."""
        layers = []
        for block in self.blocks:
            cells, memory = self.through(type(block).meet, block, memory, rngs)
            layers.append(cells)
        return layers

    def empty_cache(self, groups: Size, sequences: int, length: int) -> Cache:
        """Room for `groups` of so many captions each, of up to `length` positions."""
        _, heads, head_size = self.blocks[0].self_attention.w_k.shape
        room = length * sequences
        zeros = jnp.zeros((groups, heads, room, head_size), self.embed.embedding.dtype)
        past = jnp.zeros((groups, sequences, room), bool)
        return Cache([KeyValue.of(zeros, zeros) for _ in self.blocks], past, jnp.asarray(0, jnp.int32))

    def __call__(
        self,
        inputs: Int[Array, "BK T"],
        is_word: Bool[Array, "BK T"],
        memory: list[KeyValue],
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "BK T V"]:
        """Logits of the word that follows each position, from the words up to it; padding is looked at by none."""
        return self.all_logits(self.read(inputs, is_word, memory, rngs))

    def read(
        self,
        inputs: Int[Array, "BK T"],
        is_word: Bool[Array, "BK T"],
        memory: list[KeyValue],
        rngs: nnx.Rngs | None = None,
    ) -> Float[Array, "BK T D"]:
        """What the blocks make of words, before it is turned to logits."""
        length = inputs.shape[1]
        mask = causal_mask(length) & padding_mask(is_word)
        x = dropout(self.words(inputs, jnp.arange(length)), self.dropout, rngs)
        for block, source in zip(self.blocks, memory, strict=True):
            x, _ = self.through(type(block).__call__, block, x, source, mask, rngs=rngs)
        return x

    def watched(
        self,
        inputs: Int[Array, "B T"],
        is_word: Bool[Array, "B T"],
        cells: Float[Array, "B S D"],
        is_cell: Bool[Array, "B S"],
        nudges: list[Looks] | None = None,
    ) -> tuple[Float[Array, "B T V"], list[Looks]]:
        """As the call, of a memory that is not projected yet and may lack cells; and where each layer's heads looked.

        Written out for those who ask how a caption came about; `nudges` are added to the weights of each layer.
        """
        length = inputs.shape[1]
        mask = causal_mask(length) & padding_mask(is_word)
        x = self.words(inputs, jnp.arange(length))
        looks = []
        for block, nudge in zip(self.blocks, nudges or [None] * len(self.blocks), strict=True):
            x, cells, shares = block.watched(x, cells, mask, is_cell, nudge)
            looks.append(shares)
        return self.logits(x), looks

    def step(
        self, words: Int[Array, "G K"], memory: list[KeyValue], cache: Cache
    ) -> tuple[Float[Array, "G K V"], Cache]:
        """One more word for each sequence: logits of the next, and the cache with this word in it.

        To the blocks the K sequences of a group are K queries of one store, each with a mask of its own.
        """
        _, sequences, room = cache.past.shape
        start = cache.length * sequences
        is_own = jnp.arange(room)[None, :] == start + jnp.arange(sequences)[:, None]
        past = cache.past | is_own[None]
        x = self.words(words, jnp.full(sequences, cache.length))
        layers = []
        for block, source, layer in zip(self.blocks, memory, cache.layers, strict=True):
            x, layer = block(x, source, past[:, None], layer, start)
            layers.append(layer)
        return self.logits(x), Cache(layers, past, cache.length + 1)

    def logits(self, x: Float[Array, "B T D"]) -> Float[Array, "B T V"]:
        r"""$$\mathrm{norm}(x)\, E^\top$$ (Vaswani et al. 2017, section 3.4), in float32 for the softmax to come."""
        if self.output_columns is not None:
            return jnp.einsum("btd,dv->btv", self.norm(x), self.output_columns[...], preferred_element_type=jnp.float32)
        return jnp.einsum("btd,vd->btv", self.norm(x), self.output_matrix(), preferred_element_type=jnp.float32)

    def output_matrix(self) -> Float[Array, "V D"]:
        """E: the words' embedding."""
        return jnp.asarray(self.embed.embedding[...])

    def lay_down_output(self) -> None:
        """E^T is kept besides, as products of few rows take it on CPUs; of E as it lies they are up to twice as slow.

        For writing alone: what is learned of E does not reach it.
        """
        self.output_columns = nnx.Param(jnp.transpose(self.output_matrix()))

    def all_logits(self, x: Float[Array, "B T D"]) -> Float[Array, "B T V"]:
        """The same of all captions as one long one, for the sake of the gradient by the embedding (`layers.Linear`)."""
        return self.logits(x.reshape(1, -1, x.shape[-1])).reshape(*x.shape[:2], -1)

    def words(self, ids: Int[Array, "B T"], positions: Int[Array, " T"]) -> Float[Array, "B T D"]:
        r"""$$E_{w}\sqrt{D} + PE_{pos}$$ (Vaswani et al. 2017, sections 3.4 and 3.5)."""
        width = self.embed.features
        x = jnp.take(self.embed.embedding[...], ids, axis=0) * math.sqrt(width)
        return x + sinusoids(positions, width)[None].astype(x.dtype)
