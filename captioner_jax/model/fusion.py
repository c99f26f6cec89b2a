r"""How image features F meet text features T: decoder blocks of like parts that differ in this.

    cross      each word asks the image by cross-attention                    (Vaswani et al. 2017, section 3.1)
    concat     one self-attention over [F; T], the image being a prefix       (Liu et al. 2018; Dong et al. 2019)
    weighted   what the word asks of the image and the word itself, weighted by sigma(W_F F + W_T T + b)
    sigmoid    sigma(W_F F + W_T T + b) alone

A block meets an image's memory first (`meet`), once for all that is written of it; then words, T at a time.
Normalisation comes before each sublayer, not after it: Xiong et al. 2020, "On Layer Normalization in the Transformer
Architecture", equation of the Pre-LN block in table 1.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from captioner_jax.config import ModelConfig
from captioner_jax.model.attention import (
    KeyValue,
    MultiHeadAttention,
    masked_softmax,
    padding_mask,
    read,
    scores,
)
from captioner_jax.model.layers import Activation, FeedForward, LayerNorm, Linear, dropout


class Looks(NamedTuple):
    """Where each head of a block looks, as shares: words at words, words at cells, cells at cells.

    `among` is None where cells look at nothing and stay as they are. Words then look at words first and at cells next,
    with shares that sum to 1 each time; else at both at once, and the two sum to 1 together.
    """

    words: Float[Array, "B N T T"]
    cells: Float[Array, "B N T S"]
    among: Float[Array, "B N S S"] | None


class Watched(NamedTuple):
    """A block's words and cells as they leave it, and where its heads looked."""

    words: Float[Array, "B T D"]
    cells: Float[Array, "B S C"]
    looks: Looks


class Style(NamedTuple):
    """In what blocks of one formula differ: biases of projections, what norms add to variances, the activation."""

    bias: bool
    epsilon: float
    activation: Activation


PLAIN = Style(bias=False, epsilon=1e-6, activation=jax.nn.relu)


class CrossBlock(nnx.Module):
    """Self-attention, cross-attention, feed-forward, each added to what it read (Vaswani et al. 2017, section 3.1)."""

    def __init__(self, config: ModelConfig, *, style: Style = PLAIN, channels: int | None = None, rngs: nnx.Rngs):
        """`channels` is the memory's width, if it is not D."""
        norm = functools.partial(LayerNorm, config.width, epsilon=style.epsilon, rngs=rngs)
        attention = functools.partial(MultiHeadAttention, config.width, config.heads, bias=style.bias, rngs=rngs)
        self.norm_1 = norm()
        self.self_attention = attention()
        self.norm_2 = norm()
        self.cross_attention = attention(source=channels)
        self.norm_3 = norm()
        self.mlp = FeedForward(config.width, config.feed_forward, style.activation, rngs=rngs)
        self.dropout = config.dropout

    def meet(
        self, memory: Float[Array, "B S D"], rngs: nnx.Rngs | None = None
    ) -> tuple[KeyValue, Float[Array, "B S D"]]:
        """The memory as this block's words attend to it, and as the next block meets it."""
        return self.cross_attention.project(memory), memory

    def __call__(
        self,
        x: Float[Array, "BK T D"],
        memory: KeyValue,
        mask: Bool[Array, "#BK 1 T P"],
        past: KeyValue | None = None,
        start: Int[Array, ""] | int = 0,
        rngs: nnx.Rngs | None = None,
    ) -> tuple[Float[Array, "BK T D"], KeyValue]:
        """T new positions, and the keys and values of all P positions that they may look at.

        Without a `past`, the new positions are all there are (P = T). With one, their keys and values are written
        into it from position `start` on.
        """
        h = self.norm_1(x)
        words = with_past(self.self_attention.project(h), past, start)
        x = x + dropout(self.self_attention(h, words, mask), self.dropout, rngs)
        x = x + dropout(self.look(self.norm_2(x), memory), self.dropout, rngs)
        x = x + dropout(self.mlp(self.norm_3(x)), self.dropout, rngs)
        return x, words

    def watched(
        self,
        x: Float[Array, "B T D"],
        cells: Float[Array, "B S C"],
        mask: Bool[Array, "#B 1 T T"],
        is_cell: Bool[Array, "B S"],
        nudge: Looks | None = None,
    ) -> Watched:
        """`meet` and the block itself, with all weights written out, of a memory from which cells may be missing.

        `nudge` is added to the weights, for derivatives by them.
        """
        h = self.norm_1(x)
        words, memory = self.self_attention.project(h), self.cross_attention.project(cells)
        at_words = nudged(self.self_attention.weights(h, words, mask), nudge and nudge.words)
        x = x + self.self_attention.read(at_words, words)
        h = self.norm_2(x)
        at_cells = nudged(self.cross_attention.weights(h, memory, padding_mask(is_cell)), nudge and nudge.cells)
        x = x + self.fuse(self.cross_attention.read(at_cells, memory), h)
        return Watched(x + self.mlp(self.norm_3(x)), cells, Looks(at_words, at_cells, None))

    def look(self, x: Float[Array, "BK T D"], memory: KeyValue) -> Float[Array, "BK T D"]:
        """The fusion of B*K sequences with B memories: the K beams of an image are but more queries of it."""
        images, width = memory.values.shape[0], x.shape[-1]
        return self.fuse(self.cross_attention(x.reshape(images, -1, width), memory).reshape(x.shape), x)

    def fuse(self, seen: Float[Array, "BK T D"], x: Float[Array, "BK T D"]) -> Float[Array, "BK T D"]:
        """What words x take from what they saw by cross-attention: all of it."""
        return seen


class WeightedBlock(CrossBlock):
    r"""A CrossBlock in which each word weighs what it saw against what it knew.

    $$g = \sigma(W_F F + W_T T + b), \qquad \mathrm{Fusion}(F, T) = g \odot F + (1 - g) \odot T$$

    T [T D] are the words as this sublayer reads them (normalised); F [T D] is the image as each of them asks for it,
    pooled over the cells by cross-attention. The gate g lies between 0 and 1 in each channel of each word: 1 takes the
    image, 0 the text, so that a word such as "of" need take nothing from the picture (Arevalo et al. 2017, "Gated
    Multimodal Units for Information Fusion", section 3.1).
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        super().__init__(config, rngs=rngs)
        self.w_f = Linear(config.width, config.width, use_bias=False, rngs=rngs)
        self.w_t = Linear(config.width, config.width, rngs=rngs)

    def fuse(self, seen: Float[Array, "BK T D"], x: Float[Array, "BK T D"]) -> Float[Array, "BK T D"]:
        """g F + (1 - g) T."""
        gate = self.gate(seen, x)
        return gate * seen + (1 - gate) * x

    def gate(self, seen: Float[Array, "BK T D"], x: Float[Array, "BK T D"]) -> Float[Array, "BK T D"]:
        """sigma(W_F F + W_T T + b)."""
        return jax.nn.sigmoid(self.w_f(seen) + self.w_t(x))


class SigmoidBlock(WeightedBlock):
    r"""$$\mathrm{Fusion}(F, T) = \sigma(W_F F + W_T T + b)$$ to the letter: the gate, without the two that it weighs.

    What it adds to the words lies between 0 and 1 and is a joint feature of image and word, not a share of either.
    """

    def fuse(self, seen: Float[Array, "BK T D"], x: Float[Array, "BK T D"]) -> Float[Array, "BK T D"]:
        """g alone."""
        return self.gate(seen, x)


class ConcatBlock(nnx.Module):
    r"""One self-attention over [F; T] and a feed-forward, for cells and words alike.

    Cells see each other; words see all cells and the words before (`prefix_mask`): the prefix of Liu et al. 2018,
    "Generating Wikipedia by Summarizing Long Sequences", and of Dong et al. 2019, "Unified Language Model
    Pre-training", figure 1. Since cells see no word, they pass through the block once an image (`meet`), and words then
    attend to their keys and values as they do to those of earlier words.
    """

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs):
        self.norm_1 = LayerNorm(config.width, rngs=rngs)
        self.self_attention = MultiHeadAttention(config.width, config.heads, rngs=rngs)
        self.norm_2 = LayerNorm(config.width, rngs=rngs)
        self.mlp = FeedForward(config.width, config.feed_forward, rngs=rngs)
        self.dropout = config.dropout

    def meet(
        self, memory: Float[Array, "B S D"], rngs: nnx.Rngs | None = None
    ) -> tuple[KeyValue, Float[Array, "B S D"]]:
        """The cells' keys and values, and the cells as they leave this block."""
        h = self.norm_1(memory)
        cells = self.self_attention.project(h)
        memory = memory + dropout(self.self_attention(h, cells), self.dropout, rngs)
        return cells, memory + dropout(self.mlp(self.norm_2(memory)), self.dropout, rngs)

    def __call__(
        self,
        x: Float[Array, "BK T D"],
        memory: KeyValue,
        mask: Bool[Array, "#BK 1 T P"],
        past: KeyValue | None = None,
        start: Int[Array, ""] | int = 0,
        rngs: nnx.Rngs | None = None,
    ) -> tuple[Float[Array, "BK T D"], KeyValue]:
        """T new positions, and the keys and values of all P words that they may look at; as in `CrossBlock`."""
        h = self.norm_1(x)
        words = with_past(self.self_attention.project(h), past, start)
        heads = attention_to_both(self.self_attention.queries(h), memory, words, mask)
        x = x + dropout(self.self_attention.merge(heads), self.dropout, rngs)
        x = x + dropout(self.mlp(self.norm_2(x)), self.dropout, rngs)
        return x, words

    def watched(
        self,
        x: Float[Array, "B T D"],
        cells: Float[Array, "B S D"],
        mask: Bool[Array, "#B 1 T T"],
        is_cell: Bool[Array, "B S"],
        nudge: Looks | None = None,
    ) -> Watched:
        """As in `CrossBlock`, and as the one self-attention over [F; T] that it is."""
        both = jnp.concatenate([cells, x], axis=1)
        h = self.norm_1(both)
        source, split = self.self_attention.project(h), cells.shape[1]
        weights = self.self_attention.weights(h, source, prefix_mask(is_cell, mask))
        at_words = nudged(weights[:, :, split:, split:], nudge and nudge.words)
        at_cells = nudged(weights[:, :, split:, :split], nudge and nudge.cells)
        among = nudged(weights[:, :, :split, :split], nudge and nudge.among)
        of_cells, of_words = source.values[:, :, :split], source.values[:, :, split:]
        heads = [read(among, of_cells), read(at_cells, of_cells) + read(at_words, of_words)]
        both = both + self.self_attention.merge(jnp.concatenate(heads, axis=2))
        both = both + self.mlp(self.norm_2(both))
        return Watched(both[:, split:], both[:, :split], Looks(at_words, at_cells, among))


Block = CrossBlock | ConcatBlock


def make_block(config: ModelConfig, *, rngs: nnx.Rngs) -> Block:
    """The block that `config.fusion` names."""
    match config.fusion:
        case "cross":
            return CrossBlock(config, rngs=rngs)
        case "weighted":
            return WeightedBlock(config, rngs=rngs)
        case "sigmoid":
            return SigmoidBlock(config, rngs=rngs)
        case "concat":
            return ConcatBlock(config, rngs=rngs)


def prefix_mask(is_cell: Bool[Array, "B S"], mask: Bool[Array, "#B 1 T T"]) -> Bool[Array, "B 1 U U"]:
    """Over [F; T], U = S + T positions: all see the cells that are there, words also words, as their mask tells."""
    (batch, cells), words = is_cell.shape, mask.shape[-1]
    at_cells = jnp.broadcast_to(padding_mask(is_cell), (batch, 1, cells + words, cells))
    at_words = jnp.broadcast_to(mask, (batch, 1, words, words))
    at_words = jnp.concatenate([jnp.zeros((batch, 1, cells, words), bool), at_words], axis=2)
    return jnp.concatenate([at_cells, at_words], axis=3)


def attention_to_both(
    q: Float[Array, "BK N T H"], cells: KeyValue, words: KeyValue, mask: Bool[Array, "#BK 1 T P"]
) -> Float[Array, "BK N T H"]:
    r"""$$\mathrm{softmax}\left(\frac{Q\,[K_F; K_T]^\top}{\sqrt{d_k}}\right) [V_F; V_T]$$

    of B*K sequences to the S cells of B images, which each image's K sequences share, and to P words of their own.
    """
    images, sequences = cells.values.shape[0], q.shape[0]
    each = q.reshape(images, -1, *q.shape[1:])
    keys, values = (x.reshape(images, -1, *x.shape[1:]) for x in (words.keys, words.values))
    mask = jnp.broadcast_to(mask, (sequences, *mask.shape[1:])).reshape(images, -1, *mask.shape[1:])
    of_cells, of_words = weights_of_both(each, cells.keys, keys, mask)
    return (read(of_cells, cells.values[:, None]) + read(of_words, values)).reshape(q.shape)


def weights_of_both(
    q: Float[Array, "B K N T H"],
    cells: Float[Array, "B N S H"],
    words: Float[Array, "B K N P H"],
    mask: Bool[Array, "#B #K 1 T P"],
) -> tuple[Float[Array, "B K N T S"], Float[Array, "B K N T P"]]:
    """The softmax of `attention_to_both`, of the keys of both, parted into what falls on cells and what on words."""
    to_both = jnp.concatenate([scores(q, cells[:, None]), scores(q, words)], axis=-1)
    split = cells.shape[2]
    mask = jnp.pad(mask, [*[(0, 0)] * 4, (split, 0)], constant_values=True)  # words see all cells
    of_cells, of_words = jnp.split(masked_softmax(to_both, mask), [split], axis=-1)
    return of_cells, of_words


def with_past(new: KeyValue, past: KeyValue | None, start: Int[Array, ""] | int) -> KeyValue:
    """Keys and values of new words alone, or put into those of a past from a position on."""
    return new if past is None else past.write(new, jnp.asarray(start))


def nudged(weights: Float[Array, "*shape"], by: Float[Array, "*shape"] | None) -> Float[Array, "*shape"]:
    """Weights, and what is added to them for derivatives."""
    return weights if by is None else weights + by
