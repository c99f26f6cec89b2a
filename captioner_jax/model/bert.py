"""BERT as a decoder (Devlin et al. 2019, "BERT"; Rothe et al. 2020), looking at images, as BLIP has it.

Each sublayer is normalised after it is added to what it read, as in the first Transformer; what leaves the last block
goes through one more layer before it meets the output matrix.
"""

from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from captioner_jax.config import ModelConfig
from captioner_jax.model.attention import KeyValue, padding_mask
from captioner_jax.model.fusion import CrossBlock, Looks, Style, Watched, nudged, with_past
from captioner_jax.model.layers import LayerNorm, Linear, dropout, gelu
from captioner_jax.model.placed import PlacedDecoder

BERT = Style(bias=True, epsilon=1e-12, activation=gelu)
PLACES = 512
"""Positions that it has learned (section A.2)."""


class PostNormBlock(CrossBlock):
    r"""The sublayers of a `CrossBlock`, each as $$\mathrm{LayerNorm}(x + \mathrm{Sublayer}(x))$$

    (Vaswani et al. 2017, section 3.1; the Post-LN block of Xiong et al. 2020, table 1).
    """

    def __call__(
        self,
        x: Float[Array, "BK T D"],
        memory: KeyValue,
        mask: Bool[Array, "#BK 1 T P"],
        past: KeyValue | None = None,
        start: Int[Array, ""] | int = 0,
        rngs: nnx.Rngs | None = None,
    ) -> tuple[Float[Array, "BK T D"], KeyValue]:
        words = with_past(self.self_attention.project(x), past, start)
        x = self.norm_1(x + dropout(self.self_attention(x, words, mask), self.dropout, rngs))
        x = self.norm_2(x + dropout(self.look(x, memory), self.dropout, rngs))
        x = self.norm_3(x + dropout(self.mlp(x), self.dropout, rngs))
        return x, words

    def watched(
        self,
        x: Float[Array, "B T D"],
        cells: Float[Array, "B S C"],
        mask: Bool[Array, "#B 1 T T"],
        is_cell: Bool[Array, "B S"],
        nudge: Looks | None = None,
    ) -> Watched:
        words, memory = self.self_attention.project(x), self.cross_attention.project(cells)
        at_words = nudged(self.self_attention.weights(x, words, mask), nudge and nudge.words)
        x = self.norm_1(x + self.self_attention.read(at_words, words))
        at_cells = nudged(self.cross_attention.weights(x, memory, padding_mask(is_cell)), nudge and nudge.cells)
        x = self.norm_2(x + self.fuse(self.cross_attention.read(at_cells, memory), x))
        return Watched(self.norm_3(x + self.mlp(x)), cells, Looks(at_words, at_cells, None))


class BertDecoder(PlacedDecoder):
    """L post-norm blocks, with a norm of the embedding before them and one more layer after."""

    def __init__(self, config: ModelConfig, channels: int, vocabulary: int, *, rngs: nnx.Rngs):
        """For a memory of C `channels`."""
        super().__init__(config, channels, vocabulary, places=PLACES, block=PostNormBlock, style=BERT, rngs=rngs)
        self.norm_words = LayerNorm(config.width, epsilon=BERT.epsilon, rngs=rngs)
        self.transform = Linear(config.width, config.width, rngs=rngs)

    def words(self, ids: Int[Array, "B T"], positions: Int[Array, " T"]) -> Float[Array, "B T D"]:
        """The norm of the sum of both embeddings (Devlin et al. 2019, figure 2), without one of segments."""
        return self.norm_words(super().words(ids, positions))

    def logits(self, x: Float[Array, "B T D"]) -> Float[Array, "B T V"]:
        r"""$$\mathrm{norm}(\mathrm{gelu}(x W + c))\, E^\top + b$$, in float32 for the softmax to come."""
        return super().logits(gelu(self.transform(x)))
