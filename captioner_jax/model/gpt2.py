"""GPT-2's decoder (Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"), looking at images.

Its blocks are `CrossBlock`s, normalised before each sublayer, with biases and another activation. Captioners are
published that are a Vision Transformer and GPT-2, of which only the cross-attention was new.
"""

from flax import nnx

from captioner_jax.config import ModelConfig
from captioner_jax.model.fusion import CrossBlock, Style
from captioner_jax.model.layers import tanh_gelu
from captioner_jax.model.placed import PlacedDecoder

GPT2 = Style(bias=True, epsilon=1e-5, activation=tanh_gelu)
PLACES = 1024
"""Positions that it has learned (section 2.3)."""


class GPT2Decoder(PlacedDecoder):
    """L pre-norm blocks and one more norm (section 2.3)."""

    def __init__(self, config: ModelConfig, channels: int, vocabulary: int, *, rngs: nnx.Rngs):
        """For a memory of C `channels`."""
        super().__init__(config, channels, vocabulary, places=PLACES, block=CrossBlock, style=GPT2, rngs=rngs)
