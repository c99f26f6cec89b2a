"""Images to captions, with everything between compiled into one function."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import UInt8

from captioner_jax.data.images import Preprocessing, normalise
from captioner_jax.generation.search import Found, beam_search, greedy
from captioner_jax.model.captioner import Captioner


def make_writer(
    graphdef: nnx.GraphDef[Captioner], preprocessing: Preprocessing, *, length: int, beams: int
) -> Callable[[dict[Any, Any], UInt8[ArrayLike, "B Y X 3"]], Found]:
    """A jitted function of parameters and pixels: normalise, encode, search. One beam is greedy."""
    search = greedy if beams == 1 else functools.partial(beam_search, beams=beams)

    @jax.jit
    def write(parameters: dict[Any, Any], pixels: UInt8[ArrayLike, "B Y X 3"]) -> Found:
        captioner = nnx.merge(graphdef, parameters)
        memory = captioner.memory(normalise(jnp.asarray(pixels), preprocessing))
        return search(captioner.decoder, memory, length)

    return write
