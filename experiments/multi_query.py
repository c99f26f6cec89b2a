"""Multi-query attention: heads differ in what they ask, and share what they look at (Shazeer 2019).

python -m experiments.multi_query        trains it and the captioner as it is, three seeds each, and compares them
python -m experiments.multi_query --help
"""

import sys

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from captioner_jax.config import ModelConfig
from captioner_jax.model.attention import KeyValue, MultiHeadAttention
from captioner_jax.model.captioner import Captioner
from captioner_jax.model.fusion import CrossBlock
from experiments.comparing import compare


class MultiQueryAttention(MultiHeadAttention):
    r"""$$\mathrm{head}_n = \mathrm{Attention}(Q W_n^Q,\ K W^K,\ V W^V)$$ (Shazeer 2019, section 3).

    One projection of keys and one of values serve all N heads, so a decoding cache is N times smaller.
    """

    def __init__(self, width: int, heads: int, *, rngs: nnx.Rngs):
        super().__init__(width, heads, rngs=rngs)
        one_head = nnx.initializers.lecun_normal(in_axis=0, out_axis=(1, 2))
        self.w_k = nnx.Param(one_head(rngs.params(), (width, 1, width // heads)))
        self.w_v = nnx.Param(one_head(rngs.params(), (width, 1, width // heads)))

    def weights(
        self, x: Float[Array, "B T D"], source: KeyValue, mask: Bool[Array, "#B 1 #T S"] | None = None
    ) -> Float[Array, "B N T S"]:
        return super().weights(x, self.for_heads(source), mask)

    def read(self, weights: Float[Array, "B N T S"], source: KeyValue) -> Float[Array, "B T D"]:
        return super().read(weights, self.for_heads(source))

    def for_heads(self, source: KeyValue) -> KeyValue:
        """The shared keys and values, once for each head."""
        return KeyValue(*(jnp.repeat(shared, len(self.w_o[...]), axis=1) for shared in source))


class MultiQueryBlock(CrossBlock):
    """A block whose words ask each other and the image in this way."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        super().__init__(config, rngs=rngs)
        self.self_attention = MultiQueryAttention(config.width, config.heads, rngs=rngs)
        self.cross_attention = MultiQueryAttention(config.width, config.heads, rngs=rngs)


class MultiQueryCaptioner(Captioner):
    """A captioner of such blocks."""

    def __init__(self, config: ModelConfig, vocabulary: int, *, rngs: nnx.Rngs):
        super().__init__(config, vocabulary, rngs=rngs)
        for layer in range(config.layers):
            self.decoder.blocks[layer] = MultiQueryBlock(config, rngs=rngs)


if __name__ == "__main__":
    sys.exit(compare([MultiQueryCaptioner], sys.argv[1:]))
