"""What decoders of published captioners have in common: places that are learned, and a bias for each word."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from captioner_jax.config import ModelConfig
from captioner_jax.model.decoder import Decoder
from captioner_jax.model.fusion import CrossBlock, Style
from captioner_jax.model.layers import LayerNorm


class PlacedDecoder(Decoder):
    """Words and places learned, L blocks, a norm, and an output matrix, which is the words' embedding if `tied`."""

    def __init__(
        self,
        config: ModelConfig,
        channels: int,
        vocabulary: int,
        *,
        places: int,
        block: type[CrossBlock],
        style: Style,
        rngs: nnx.Rngs,
    ):
        """For a memory of C `channels` and captions of up to so many `places`."""
        spread = nnx.initializers.normal(0.02)
        self.embed = nnx.Embed(vocabulary, config.width, embedding_init=spread, rngs=rngs)
        self.positions = nnx.Param(spread(rngs.params(), (places, config.width)))
        self.blocks = nnx.List([block(config, style=style, channels=channels, rngs=rngs) for _ in range(config.layers)])
        self.norm = LayerNorm(config.width, epsilon=style.epsilon, rngs=rngs)
        self.output = None if config.tied else nnx.Param(spread(rngs.params(), (vocabulary, config.width)))
        self.bias = nnx.Param(jnp.zeros(vocabulary))
        self.dropout = config.dropout

    def words(self, ids: Int[Array, "B T"], positions: Int[Array, " T"]) -> Float[Array, "B T D"]:
        r"""$$W_e[w] + W_p[pos]$$ (Radford et al. 2018, "Improving Language Understanding", equation 2)."""
        return jnp.take(self.embed.embedding[...], ids, axis=0) + jnp.take(self.positions[...], positions, axis=0)[None]

    def logits(self, x: Float[Array, "B T D"]) -> Float[Array, "B T V"]:
        r"""$$\mathrm{norm}(x)\, W^\top + b$$, in float32 for the softmax to come."""
        return super().logits(x) + self.bias[...].astype(jnp.float32)[None, None]

    def output_matrix(self) -> Float[Array, "V D"]:
        return super().output_matrix() if self.output is None else jnp.asarray(self.output[...])
