"""Images to captions, with everything between compiled into one function."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Float, UInt8

from captioner_jax.data.features import cells_of
from captioner_jax.data.images import Preprocessing
from captioner_jax.generation.ensemble import alone
from captioner_jax.generation.search import Found, beam_search, greedy
from captioner_jax.model.captioner import Captioner

Images = UInt8[ArrayLike, "B Y X 3"] | Float[ArrayLike, "B y x C"]


def make_writer(
    graphdef: nnx.GraphDef[Captioner], preprocessing: Preprocessing, *, length: int, beams: int
) -> Callable[[dict[Any, Any], Images], Found]:
    """A jitted function of parameters and pixels, or cells: normalise, encode, search. One beam is greedy."""
    search = greedy if beams == 1 else functools.partial(beam_search, beams=beams)

    @jax.jit
    def write(parameters: dict[Any, Any], images: Images) -> Found:
        captioner = nnx.merge(graphdef, parameters)
        memory = captioner.memory(cells_of(captioner, jnp.asarray(images), preprocessing))
        return search(alone(captioner.decoder, memory), length)

    return write
