"""A caption gone over once more, so that writing it pays nothing for what is asked about it afterwards."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from captioner_jax.data.features import cells_of
from captioner_jax.generation.ensemble import log_probabilities
from captioner_jax.generation.writing import Images, Untrained
from captioner_jax.model.decoder import Decoder
from captioner_jax.model.fusion import Looks
from captioner_jax.model.names import Parameters
from captioner_jax.text.special import PAD, START


class Retelling(NamedTuple):
    """B captions, as T tokens with END and PAD, and the memories that they were written from.

    The last y * x cells of a memory are those of the image's `grid`; before them there may be a class token.
    What is told of padding means nothing.
    """

    decoder: Decoder
    memory: Float[Array, "B S D"]
    grid: tuple[int, int]
    tokens: Int[Array, "B T"]

    def logits(
        self, is_cell: Bool[Array, "B S"] | None = None, nudges: list[Looks] | None = None
    ) -> tuple[Float[Array, "B T V"], list[Looks]]:
        """Of each token, given those before it and the cells that are left (None: all); and each layer's looks."""
        inputs = jnp.concatenate([jnp.full_like(self.tokens[:, :1], START), self.tokens[:, :-1]], axis=1)
        if is_cell is None:
            is_cell = jnp.ones(self.memory.shape[:2], bool)
        return self.decoder.watched(inputs, inputs != PAD, self.memory, is_cell, nudges)

    def placed(self, shares: Float[Array, "*B S"]) -> Float[Array, "*B y x"]:
        """What falls on the cells of the image, in their places."""
        height, width = self.grid
        return shares[..., shares.shape[-1] - height * width :].reshape(*shares.shape[:-1], height, width)

    def whole(self, is_placed: Bool[Array, "B P"]) -> Bool[Array, "B S"]:
        """Which cells of the memory are left where these of the image are: those before them always are."""
        before = self.memory.shape[1] - is_placed.shape[1]
        return jnp.pad(is_placed, ((0, 0), (before, 0)), constant_values=True)

    def log_p(self, is_cell: Bool[Array, "B S"] | None = None) -> Float[Array, "B T"]:
        """Log-probability of each token, in nats, given the cells that are left."""
        return self.of_tokens(log_probabilities(self.logits(is_cell)[0]))

    def of_tokens(self, values: Float[Array, "B T V"]) -> Float[Array, "B T"]:
        """Of values for all words, those of the tokens that were written."""
        return jnp.take_along_axis(values, self.tokens[:, :, None], axis=-1)[:, :, 0]


def retell(captioner: Untrained, parameters: Parameters, images: Images, tokens: Int[ArrayLike, "B T"]) -> Retelling:
    """Each image's caption with its memory; to be jitted with what is asked of it."""
    model = nnx.merge(captioner.graphdef, parameters)
    cells = cells_of(model, jnp.asarray(images), captioner.preprocessing)
    return Retelling(model.decoder, model.encode(cells), model.grid(cells), jnp.asarray(tokens))


class Reading(NamedTuple):
    """How likely each token was, the k likeliest in its place, and how much each head looked at each cell and word."""

    log_p: Float[Array, "B T"]
    likeliest: Int[Array, "B T k"]
    likeliest_log_p: Float[Array, "B T k"]
    looks: Float[Array, "B L N T y x"]
    looks_back: Float[Array, "B L N T T"]


def make_reader(
    captioner: Untrained, alternatives: int
) -> Callable[[Parameters, Images, Int[ArrayLike, "B T"]], Reading]:
    """A jitted function of parameters, pixels or cells, and each image's caption; k is `alternatives`."""

    @jax.jit
    def read(parameters: Parameters, images: Images, tokens: Int[ArrayLike, "B T"]) -> Reading:
        retelling = retell(captioner, parameters, images, tokens)
        logits, looks = retelling.logits()
        log_p = log_probabilities(logits)
        likeliest_log_p, likeliest = jax.lax.top_k(log_p, min(alternatives, log_p.shape[-1]))
        at_cells = jnp.stack([layer.cells for layer in looks], axis=1)
        return Reading(
            retelling.of_tokens(log_p),
            likeliest,
            likeliest_log_p,
            retelling.placed(at_cells),
            jnp.stack([layer.words for layer in looks], axis=1),
        )

    return read
