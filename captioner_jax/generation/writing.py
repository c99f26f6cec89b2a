"""Images to captions, with everything between compiled into one function."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key, UInt8, UInt32

from captioner_jax.config import Precision
from captioner_jax.data.features import cells_of
from captioner_jax.data.images import Preprocessing
from captioner_jax.devices import over_images
from captioner_jax.generation.ensemble import Ensemble, Voice
from captioner_jax.generation.neighbours import Index
from captioner_jax.generation.search import Found, beam_search, greedy
from captioner_jax.generation.settings import Search
from captioner_jax.model.captioner import Captioner
from captioner_jax.model.convolutions import fold_norms
from captioner_jax.model.names import Parameters
from captioner_jax.model.precision import in_precision

Images = UInt8[ArrayLike, "B Y X 3"] | Float[ArrayLike, "B y x C"]


class Untrained(NamedTuple):
    """What a captioner is, besides its parameters."""

    graphdef: nnx.GraphDef[Captioner]
    preprocessing: Preprocessing

    def voice(self, parameters: Parameters, images: Images) -> Voice:
        """The captioner of these parameters, and what it sees in the images."""
        captioner = nnx.merge(self.graphdef, parameters)
        return Voice.of(captioner, cells_of(captioner, jnp.asarray(images), self.preprocessing))


def ready(
    graphdef: nnx.GraphDef[Captioner], parameters: Parameters, precision: Precision
) -> tuple[nnx.GraphDef[Captioner], Parameters]:
    """A captioner as it writes fastest, made so once in place of at every call: batch norms folded into convolutions;
    on CPUs the output matrix laid down as products of few rows take it; rounded, where that is asked for.

    Raises ValueError where no such `precision` is.
    """
    captioner = nnx.merge(graphdef, parameters)
    fold_norms(captioner)
    if jax.default_backend() == "cpu":
        captioner.decoder.lay_down_output()
    graphdef, state = nnx.split(captioner)
    return graphdef, in_precision(nnx.to_pure_dict(state), precision)


def make_writer(
    graphdef: nnx.GraphDef[Captioner], preprocessing: Preprocessing, *, length: int, beams: int
) -> Callable[[Parameters, Images], Found]:
    """A compiled function of parameters and pixels, or cells: normalise, encode, search. One beam is greedy."""
    search = greedy if beams == 1 else functools.partial(beam_search, beams=beams)
    captioner = Untrained(graphdef, preprocessing)

    def write(parameters: Parameters, images: Images) -> Found:
        return search(Ensemble([captioner.voice(parameters, images)]), length)

    return over_images(write, whole=[0])


def make_asked_writer(captioners: Sequence[Untrained], search: Search) -> Callable[..., Found]:
    """The same of one or more captioners with a search made by `make_search`; for what it draws the images' numbers and
    the `halves` of a seed; and each captioner's photographs, if it looks for similar ones."""

    def write(
        parameters: Sequence[Parameters],
        images: Images,
        numbers: UInt32[ArrayLike, " B"],
        seed: UInt32[ArrayLike, "2"],
        photographs: Sequence[Index] = (),
    ) -> Found:
        ensemble = Ensemble([one.voice(its, images) for one, its in zip(captioners, parameters, strict=True)])
        return search(ensemble, image_keys(seed, numbers), photographs)

    return over_images(write, whole=[0, 3, 4])


def halves(seed: int) -> UInt32[np.ndarray, "2"]:
    """A seed below 2^64 as two numbers, the lower half first: JAX makes keys of 32 bits."""
    return np.array([seed % 2**32, seed // 2**32], np.uint32)


def image_keys(seed: UInt32[ArrayLike, "2"], numbers: UInt32[ArrayLike, " B"]) -> Key[Array, " B"]:
    """A key of each image's own, by the `halves` of a seed and the image's number: it draws the same captions wherever
    in a list the image stands."""
    low, high = jnp.asarray(seed)
    key = jax.random.key(low)
    key = jnp.where(high > 0, jax.random.fold_in(key, high), key)
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.asarray(numbers))
