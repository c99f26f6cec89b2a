"""GPT-2's decoder (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"), looking at images.

Its blocks are `CrossBlock`s, normalised before each sublayer, with biases and another activation; its positions are
learned. Captioners published with it: a Vision Transformer and GPT-2, of which only the cross-attention was new.
"""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from captioner_jax.config import ModelConfig
from captioner_jax.model.decoder import Decoder
from captioner_jax.model.fusion import CrossBlock, Style
from captioner_jax.model.layers import LayerNorm, tanh_gelu

GPT2 = Style(bias=True, epsilon=1e-5, activation=tanh_gelu)
PLACES = 1024
"""Positions that it has learned (section 2.3)."""


class GPT2Decoder(Decoder):
    """Words and places learned, L blocks, a norm, and the words' embedding as output matrix (section 2.3)."""

    def __init__(self, config: ModelConfig, channels: int, vocabulary: int, *, rngs: nnx.Rngs):
        """For a memory of so many channels."""
        spread = nnx.initializers.normal(0.02)
        self.embed = nnx.Embed(vocabulary, config.width, embedding_init=spread, rngs=rngs)
        self.positions = nnx.Param(spread(rngs.params(), (PLACES, config.width)))
        blocks = range(config.layers)
        self.blocks = nnx.List([CrossBlock(config, style=GPT2, channels=channels, rngs=rngs) for _ in blocks])
        self.norm = LayerNorm(config.width, epsilon=GPT2.epsilon, rngs=rngs)
        self.dropout = config.dropout

    def words(self, ids: Int[Array, "B T"], positions: Int[Array, " T"]) -> Float[Array, "B T D"]:
        r"""$$W_e[w] + W_p[pos]$$ (Radford et al. 2018, "Improving Language Understanding", equation 2)."""
        return jnp.take(self.embed.embedding[...], ids, axis=0) + jnp.take(self.positions[...], positions, axis=0)[None]
