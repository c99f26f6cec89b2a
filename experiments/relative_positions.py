"""Relative positions: how far back a word lies, in place of where it stands (Shaw et al. 2018).

python -m experiments.relative_positions        beside the captioner as it is, three seeds each
python -m experiments.relative_positions --help
"""

import math
import sys

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from captioner_jax.config import ModelConfig
from captioner_jax.model.attention import KeyValue, MultiHeadAttention, masked_softmax
from captioner_jax.model.captioner import Captioner
from captioner_jax.model.decoder import Decoder
from experiments.comparing import compare

FARTHEST = 8  # words; those that lie farther back are told apart no more


def distances(mask: Bool[Array, "B 1 T S"]) -> Int[Array, "B 1 T S"]:
    """How far back each source position lies from each target position: as many places as that sees after it."""
    seen = mask.cumsum(-1)
    return jnp.minimum(seen[..., -1:] - seen, FARTHEST)


class RelativeAttention(MultiHeadAttention):
    r"""$$\mathrm{softmax}\left(\frac{q_t^\top (k_s + a_{t-s})}{\sqrt{d_k}}\right)$$ (Shaw et al. 2018, equation 4).

    Only the keys are told the distance; the paper found that telling values, too, changed nothing (its table 3).
    """

    def __init__(self, width: int, heads: int, *, rngs: nnx.Rngs):
        super().__init__(width, heads, rngs=rngs)
        spread = nnx.initializers.normal(1.0)
        self.positions = nnx.Param(spread(rngs.params(), (FARTHEST + 1, width // heads)))

    def weights(
        self, x: Float[Array, "B T D"], source: KeyValue, mask: Bool[Array, "#B 1 #T S"] | None = None
    ) -> Float[Array, "B N T S"]:
        """Raises ValueError without a mask: it tells each query's own position."""
        if mask is None:
            raise ValueError("relative positions need a mask, which tells where each query stands")
        q = self.queries(x)
        to_keys = jnp.matmul(q, source.columns)
        to_places = jnp.einsum("bnth,kh->bntk", q, self.positions[...])
        places = jnp.broadcast_to(distances(mask), to_keys.shape)
        scores = (to_keys + jnp.take_along_axis(to_places, places, axis=-1)) / math.sqrt(q.shape[-1])
        return masked_softmax(scores, mask)


class RelativeDecoder(Decoder):
    """A decoder whose words are told how far back others lie, and not where they stand."""

    def __init__(self, config: ModelConfig, vocabulary: int, *, rngs: nnx.Rngs):
        super().__init__(config, vocabulary, rngs=rngs)
        for block in self.blocks:
            block.self_attention = RelativeAttention(config.width, config.heads, rngs=rngs)

    def words(self, ids: Int[Array, "B T"], positions: Int[Array, " T"]) -> Float[Array, "B T D"]:
        return self.embed(ids) * math.sqrt(self.embed.features)


class RelativeCaptioner(Captioner):
    """A captioner with such a decoder; the image's cells keep their sinusoids."""

    def __init__(self, config: ModelConfig, vocabulary: int, *, rngs: nnx.Rngs):
        super().__init__(config, vocabulary, rngs=rngs)
        self.decoder = RelativeDecoder(config, vocabulary, rngs=rngs)


if __name__ == "__main__":
    sys.exit(compare([RelativeCaptioner], sys.argv[1:]))
