"""How far a map can be believed: cells are taken out, or put in, in its order, and the word's probability is watched.

Petsiuk et al. 2018, "RISE", section 4.1, with two differences. Not pixels are blanked but cells are taken out of the
memory, so that nothing is shown that no picture looks like; and it is done for each word with a map of its own. A map
that is right about what the word rests on has a small area under the curve of deletion, and a large one of insertion.
What to compare with is an order at random.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from captioner_jax.explain.reading import Retelling, retell
from captioner_jax.generation.writing import Images, Untrained
from captioner_jax.model.names import Parameters

# Points of a curve.
POINTS = 17


class Areas(NamedTuple):
    """Under the curves of each token's probability against the share of cells taken out, and of cells put in."""

    deletion: Float[Array, "B T"]
    insertion: Float[Array, "B T"]


def make_areas(
    captioner: Untrained,
) -> Callable[[Parameters, Images, Int[ArrayLike, "B T"], Float[ArrayLike, "B T y x"]], Areas]:
    """A jitted function of parameters, pixels or cells, each image's caption as tokens, and a map for each token."""

    @jax.jit
    def areas(
        parameters: Parameters,
        images: Images,
        tokens: Int[ArrayLike, "B T"],
        maps: Float[ArrayLike, "B T y x"],
    ) -> Areas:
        retelling = retell(captioner, parameters, images, tokens)
        return areas_of(retelling, jnp.reshape(maps, (*retelling.tokens.shape, -1)))

    return areas


def areas_of(retelling: Retelling, maps: Float[Array, "B T P"]) -> Areas:
    """Of the P = y * x cells of the image one is always left in, since without any there is nothing to look at."""
    cells = maps.shape[-1]
    ranks = jnp.argsort(jnp.argsort(-maps, axis=-1), axis=-1)  # 0: the cell that the map names first
    counts = jnp.asarray(np.unique(np.linspace(1, cells, POINTS).round().astype(int)))  # of cells left in

    def curve(of_word: Int[Array, ""], left: Callable[[Int[Array, "B P"], Int[Array, ""]], Array]) -> Array:
        def probability(count: Int[Array, ""]) -> Float[Array, " B"]:
            return jnp.exp(retelling.log_p(retelling.whole(left(ranks[:, of_word], count)))[:, of_word])

        return jax.lax.map(probability, counts)

    def both(of_word: Int[Array, ""]) -> tuple[Float[Array, " B"], Float[Array, " B"]]:
        deleted = curve(of_word, lambda rank, count: rank >= cells - count)
        inserted = curve(of_word, lambda rank, count: rank < count)
        if cells == 1:  # which stays
            return deleted[0], inserted[0]
        share = ((counts - 1) / (cells - 1))[:, None]
        return jnp.trapezoid(deleted, share, axis=0), jnp.trapezoid(inserted, share, axis=0)

    deletion, insertion = jax.lax.map(both, jnp.arange(maps.shape[1]))
    return Areas(deletion.T, insertion.T)
