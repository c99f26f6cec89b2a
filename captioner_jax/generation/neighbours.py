r"""What people wrote of the photographs that look most like an image, as evidence of what may be said of it.

Of N photographs with known captions the nearest k = 1 ... K in what the captioner sees count by their rank, each shared
out among its R captions:

$$p_{near}(s) = \frac{1}{H_K} \sum_{k=1}^{K} \frac{1}{k} \, \frac{1}{R} \sum_{r=1}^{R} [s = s_{kr}],
\qquad H_K = \sum_{k=1}^{K} \frac{1}{k}$$

The captions that many neighbours agree on are good ones (Devlin et al. 2015, "Exploring Nearest Neighbor Approaches for
Image Captioning"); here they only help to choose among those that the captioner has written for this image.
Ranks in place of a softmax of distances need no temperature.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from captioner_jax.generation.ensemble import Ensemble
from captioner_jax.text.special import PAD


class Known(NamedTuple):
    """Photographs with captions."""

    seen: Shaped[np.ndarray, "N C"]
    """The mean of each one's cells."""
    captions: Int[np.ndarray, "N R T"]
    """END included, PAD after their words; nothing but PAD where there are fewer."""


class Index(NamedTuple):
    """The same, to be searched: of each photograph a vector of length 1."""

    mean: Float[Array, " C"]
    spread: Float[Array, " C"]
    directions: Float[Array, "N C"]
    captions: Int[Array, "N R T"]


class Evidence(NamedTuple):
    """Captions of other images, with weights whose sum is 1 for each image."""

    tokens: Int[Array, "B M T"]
    weights: Float[Array, "B M"]


def index(known: Known) -> Index:
    """Each number of what is seen is measured from its mean, in its standard deviations over the photographs."""
    seen = jnp.asarray(known.seen, jnp.float32)
    mean, spread = seen.mean(0), seen.std(0)
    return Index(mean, spread, _directions(seen, mean, spread), jnp.asarray(known.captions, jnp.int32))


def near(ensemble: Ensemble, indices: Sequence[Index], count: int) -> Evidence | None:
    """What people wrote of the photographs that look to all captioners most like each image; None where none are
    wanted."""
    if not count:
        return None
    return evidence([voice.seen for voice in ensemble.voices if voice.seen is not None], indices, count)


def evidence(seen: Sequence[Float[Array, "B C"]], indices: Sequence[Index], count: int) -> Evidence:
    """The captions of the `count` nearest photographs by the cosine, of several captioners by its mean."""
    cosines = [_directions(own, it.mean, it.spread) @ it.directions.T for own, it in zip(seen, indices, strict=True)]
    nearest = jax.lax.top_k(sum(cosines[1:], cosines[0]), count)[1]
    tokens = indices[0].captions[nearest]  # [B K R T]
    is_caption = (tokens[..., 0] != PAD).astype(jnp.float32)
    shares = is_caption / jnp.maximum(is_caption.sum(-1, keepdims=True), 1)
    weights = shares / jnp.arange(1, count + 1, dtype=jnp.float32)[None, :, None]
    weights = weights.reshape(len(weights), -1)
    return Evidence(tokens.reshape(*weights.shape, -1), weights / weights.sum(-1, keepdims=True))


def _directions(seen: Float[Array, "B C"], mean: Float[Array, " C"], spread: Float[Array, " C"]) -> Float[Array, "B C"]:
    told = (seen - mean[None]) / jnp.maximum(spread, 1e-6)[None]
    return told / jnp.maximum(jnp.linalg.norm(told, axis=-1, keepdims=True), 1e-6)
