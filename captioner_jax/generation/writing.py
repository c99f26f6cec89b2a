"""Images to captions, with everything between compiled into one function."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Float, PRNGKeyArray, UInt8

from captioner_jax.data.features import cells_of
from captioner_jax.data.images import Preprocessing
from captioner_jax.generation.ensemble import Ensemble, alone
from captioner_jax.generation.search import Found, beam_search, greedy
from captioner_jax.generation.settings import Search
from captioner_jax.model.captioner import Captioner

Images = UInt8[ArrayLike, "B Y X 3"] | Float[ArrayLike, "B y x C"]


def make_writer(
    graphdef: nnx.GraphDef[Captioner], preprocessing: Preprocessing, *, length: int, beams: int
) -> Callable[[dict[Any, Any], Images], Found]:
    """A jitted function of parameters and pixels, or cells: normalise, encode, search. One beam is greedy."""
    search = greedy if beams == 1 else functools.partial(beam_search, beams=beams)

    @jax.jit
    def write(parameters: dict[Any, Any], images: Images) -> Found:
        return search(_ensemble(graphdef, preprocessing, parameters, images), length)

    return write


def make_asked_writer(
    graphdef: nnx.GraphDef[Captioner], preprocessing: Preprocessing, search: Search
) -> Callable[[dict[Any, Any], Images, PRNGKeyArray], Found]:
    """The same with a search made by `make_search`, and a key for what it draws."""

    @jax.jit
    def write(parameters: dict[Any, Any], images: Images, key: PRNGKeyArray) -> Found:
        return search(_ensemble(graphdef, preprocessing, parameters, images), key)

    return write


def _ensemble(
    graphdef: nnx.GraphDef[Captioner], preprocessing: Preprocessing, parameters: dict[Any, Any], images: Images
) -> Ensemble:
    captioner = nnx.merge(graphdef, parameters)
    return alone(captioner.decoder, captioner.memory(cells_of(captioner, jnp.asarray(images), preprocessing)))
