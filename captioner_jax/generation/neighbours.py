r"""What people wrote of the photographs that look most like an image, as evidence of what may be said of it.

Of N photographs with known captions the nearest k = 1 ... K in what the captioner sees count by their rank, each shared
out among its R captions:

$$p_{near}(s) = \frac{1}{H_K} \sum_{k=1}^{K} \frac{1}{k} \, \frac{1}{R} \sum_{r=1}^{R} [s = s_{kr}],
\qquad H_K = \sum_{k=1}^{K} \frac{1}{k}$$

The captions that many neighbours agree on are good ones (Devlin et al. 2015, "Exploring Nearest Neighbor Approaches for
Image Captioning"); here they only help to choose among those that the captioner has written for this image.
Ranks in place of a softmax of distances need no temperature. How near photographs are is told by the cosine of

$$\Sigma^{-1/4} (x - \mu)$$

of the means x of their cells, whose mean over all photographs is mu and whose covariance is Sigma: half-way between
taking them as they are and whitening them, so that the few directions in which photographs differ most do not decide
alone (Jégou and Chum 2012, "Negative Evidences and Co-occurences in Image Retrieval: The Benefit of PCA and
Whitening").
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from captioner_jax.generation.ensemble import Ensemble
from captioner_jax.text.special import PAD

# The least variance that a direction is taken to have, as a share of the greatest: of fewer photographs than numbers
# there are directions in which all are alike.
FLATTEST = 1e-6
TINY = 1e-12


class Photographs(NamedTuple):
    """Photographs with captions."""

    seen: Shaped[np.ndarray, "N C"]
    """The mean of each one's cells."""
    captions: Int[np.ndarray, "N R T"]
    """END included, PAD after their words; nothing but PAD where there are fewer."""


class Index(NamedTuple):
    """The same, to be searched."""

    mean: Float[Array, " C"]
    root: Float[Array, "C C"]
    """The covariance to the power of -1/4."""
    directions: Float[Array, "N C"]
    """Of each photograph a vector of length 1."""
    captions: Int[Array, "N R T"]


class Evidence(NamedTuple):
    """Captions of other images, with weights whose sum is 1 for each image."""

    tokens: Int[Array, "B M T"]
    weights: Float[Array, "B M"]


def index(photographs: Photographs) -> Index:
    """The photographs, ready to be compared with others."""
    seen = np.asarray(photographs.seen, np.float32)
    mean = seen.mean(0)
    variances, axes = np.linalg.eigh(np.cov(seen - mean, rowvar=False, ddof=0, dtype=np.float32))
    root = (axes * np.maximum(variances, FLATTEST * variances[-1] + TINY) ** -0.25) @ axes.T
    directions = _directions(jnp.asarray(seen), jnp.asarray(mean), jnp.asarray(root))
    return Index(jnp.asarray(mean), jnp.asarray(root), directions, jnp.asarray(photographs.captions, jnp.int32))


def near(ensemble: Ensemble, indices: Sequence[Index], count: int) -> Evidence | None:
    """What people wrote of the photographs that look to all captioners most like each image; None where none are
    wanted."""
    if not count:
        return None
    return evidence([voice.seen for voice in ensemble.voices if voice.seen is not None], indices, count)


def evidence(seen: Sequence[Float[Array, "B _"]], indices: Sequence[Index], count: int) -> Evidence:
    """The captions of the `count` nearest photographs by the cosine, of several captioners by its mean."""
    cosines = [_directions(own, it.mean, it.root) @ it.directions.T for own, it in zip(seen, indices, strict=True)]
    nearest = jax.lax.top_k(sum(cosines[1:], cosines[0]), count)[1]
    tokens = indices[0].captions[nearest]  # [B K R T]
    is_caption = (tokens[..., 0] != PAD).astype(jnp.float32)
    shares = is_caption / jnp.maximum(is_caption.sum(-1, keepdims=True), 1)
    weights = shares / jnp.arange(1, count + 1, dtype=jnp.float32)[None, :, None]
    weights = weights.reshape(len(weights), -1)
    return Evidence(tokens.reshape(*weights.shape, -1), weights / weights.sum(-1, keepdims=True))


def _directions(seen: Float[Array, "B C"], mean: Float[Array, " C"], root: Float[Array, "C C"]) -> Float[Array, "B C"]:
    told = (seen - mean[None]) @ root
    return told / jnp.maximum(jnp.linalg.norm(told, axis=-1, keepdims=True), TINY)
