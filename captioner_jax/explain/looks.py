"""Where a captioner looked: one more pass over a caption that is written, so that writing pays nothing for it."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from captioner_jax.data.features import cells_of
from captioner_jax.generation.ensemble import log_probabilities
from captioner_jax.generation.writing import Images, Parameters, Untrained
from captioner_jax.text.special import PAD, START


class Reading(NamedTuple):
    """Of B captions of T tokens each: how likely each token was, and how much each head looked at each cell for it."""

    log_p: Float[Array, "B T"]
    looks: Float[Array, "B L N T y x"]


def make_reader(captioner: Untrained) -> Callable[[Parameters, Images, Int[Array, "B T"]], Reading]:
    """A jitted function of parameters, pixels or cells, and each image's caption as tokens, END and PAD included.

    What it tells of padding means nothing.
    """

    @jax.jit
    def read(parameters: Parameters, images: Images, tokens: Int[Array, "B T"]) -> Reading:
        model = nnx.merge(captioner.graphdef, parameters)
        cells = cells_of(model, jnp.asarray(images), captioner.preprocessing)
        memory = model.memory(cells)
        inputs = jnp.concatenate([jnp.full_like(tokens[:, :1], START), tokens[:, :-1]], axis=1)
        is_word = inputs != PAD
        log_p = log_probabilities(model.decoder(inputs, is_word, memory))
        looks = model.decoder.looks(inputs, is_word, memory)
        return Reading(
            jnp.take_along_axis(log_p, tokens[:, :, None], axis=-1)[:, :, 0],
            looks.reshape(*looks.shape[:-1], *cells.shape[1:3]),
        )

    return read
