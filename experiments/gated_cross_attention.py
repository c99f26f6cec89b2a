"""Gated cross-attention: the image is let in by a gate that begins shut (Alayrac et al. 2022, "Flamingo").

python -m experiments.gated_cross_attention        beside the captioner as it is, three seeds each
python -m experiments.gated_cross_attention --help
"""

import sys

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from captioner_jax.config import ModelConfig
from captioner_jax.model.captioner import Captioner
from captioner_jax.model.fusion import CrossBlock
from experiments.comparing import compare


class GatedBlock(CrossBlock):
    r"""$$x + \tanh(\alpha)\, \mathrm{CrossAttention}(\mathrm{LN}(x), F)$$

    with alpha = 0 to begin with (section 2.2, figure 4).

    At first a block of this kind is one of a language model, which sees nothing. In Flamingo that model was trained
    before and is kept; here it learns along with the gate.
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        super().__init__(config, rngs=rngs)
        self.alpha = nnx.Param(jnp.zeros(()))

    def fuse(self, seen: Float[Array, "BK T D"], x: Float[Array, "BK T D"]) -> Float[Array, "BK T D"]:
        return jnp.tanh(self.alpha[...]) * seen


class GatedCaptioner(Captioner):
    """A captioner of such blocks."""

    def __init__(self, config: ModelConfig, vocabulary: int, *, rngs: nnx.Rngs):
        super().__init__(config, vocabulary, rngs=rngs)
        for layer in range(config.layers):
            self.decoder.blocks[layer] = GatedBlock(config, rngs=rngs)


if __name__ == "__main__":
    sys.exit(compare([GatedCaptioner], sys.argv[1:]))
