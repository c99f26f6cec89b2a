"""Images to captions, with everything between compiled into one function."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key, UInt8, UInt32

from captioner_jax.data.features import cells_of
from captioner_jax.data.images import Preprocessing
from captioner_jax.generation.ensemble import Ensemble, Voice
from captioner_jax.generation.search import Found, beam_search, greedy
from captioner_jax.generation.settings import Search
from captioner_jax.model.captioner import Captioner

Images = UInt8[ArrayLike, "B Y X 3"] | Float[ArrayLike, "B y x C"]
Parameters = dict[Any, Any]


class Untrained(NamedTuple):
    """What a captioner is, besides its parameters."""

    graphdef: nnx.GraphDef[Captioner]
    preprocessing: Preprocessing
    mirrored: bool = False
    """It sees the mirror image of what it is shown; of pixels, not of cells."""

    def voice(self, parameters: Parameters, images: Images) -> Voice:
        """The captioner of these parameters, and what it sees in the images."""
        captioner = nnx.merge(self.graphdef, parameters)
        seen = jnp.asarray(images)[:, :, ::-1] if self.mirrored else jnp.asarray(images)
        return Voice(captioner.decoder, captioner.memory(cells_of(captioner, seen, self.preprocessing)))


def make_writer(
    graphdef: nnx.GraphDef[Captioner], preprocessing: Preprocessing, *, length: int, beams: int, mirror: bool = False
) -> Callable[[Parameters, Images], Found]:
    """A jitted function of parameters and pixels, or cells: normalise, encode, search. One beam is greedy.

    With `mirror`, which takes pixels, it writes by the mean of what it sees of an image and of its mirror image.
    """
    search = greedy if beams == 1 else functools.partial(beam_search, beams=beams)
    looks = [Untrained(graphdef, preprocessing, mirrored) for mirrored in ((False, True) if mirror else (False,))]

    @jax.jit
    def write(parameters: Parameters, images: Images) -> Found:
        return search(Ensemble([look.voice(parameters, images) for look in looks]), length)

    return write


def make_asked_writer(
    captioners: Sequence[Untrained], search: Search
) -> Callable[[Sequence[Parameters], Images, Key[Array, " B"]], Found]:
    """The same of one or more captioners with a search made by `make_search`, and keys for what it draws."""

    @jax.jit
    def write(parameters: Sequence[Parameters], images: Images, keys: Key[Array, " B"]) -> Found:
        return search(Ensemble([one.voice(its, images) for one, its in zip(captioners, parameters, strict=True)]), keys)

    return write


def image_keys(seed: int, numbers: UInt32[ArrayLike, " B"]) -> Key[Array, " B"]:
    """A key of each image's own, by its number: it draws the same captions wherever in a list the image stands."""
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), jnp.asarray(numbers))
