"""The small pieces that blocks share: normalisation, dropout, linear maps, the position-wise feed-forward network."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

Activation = Callable[[Float[Array, "*shape"]], Float[Array, "*shape"]]


def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    r"""$$x\, \Phi(x)$$ (Hendrycks and Gimpel 2016, section 2), Phi the normal distribution, not an approximation."""
    return jax.nn.gelu(x, approximate=False)


def tanh_gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    r"""$$\tfrac12 x \left(1 + \tanh\left[\sqrt{2/\pi}\,(x + 0.044715\, x^3)\right]\right)$$

    (Hendrycks and Gimpel 2016, section 2): what GPT-2 takes for `gelu`.
    """
    return jax.nn.gelu(x, approximate=True)


def dropout(x: Float[Array, "*shape"], rate: float, rngs: nnx.Rngs | None) -> Float[Array, "*shape"]:
    """Each element zeroed with probability `rate`, the others divided by 1 - rate (Srivastava et al. 2014).

    Off where `rngs` is None, as it is outside training.
    """
    if rngs is None or rate == 0:
        return x
    keep = jax.random.bernoulli(rngs.dropout(), 1 - rate, x.shape)
    return jnp.where(keep, x / (1 - rate), jnp.zeros_like(x))


class Linear(nnx.Linear):
    r"""$$x W + b$$ at all positions at once, as one matrix of them.

    So the gradient by W is one product $X^\top G$; over several axes of positions XLA on CPU first makes a copy of G.
    """

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, inputs: Float[Array, "*positions C"]
    ) -> Float[Array, "*positions D"]:
        return super().__call__(inputs.reshape(-1, inputs.shape[-1])).reshape(*inputs.shape[:-1], self.out_features)


class LayerNorm(nnx.LayerNorm):
    """Each position's D features normalised (Ba, Kiros and Hinton 2016), in float32 whatever the type of x."""

    def __call__(self, x: Float[Array, "*shape D"], *, mask: Array | None = None) -> Float[Array, "*shape D"]:
        return super().__call__(x.astype(jnp.float32), mask=mask).astype(x.dtype)


class GroupNorm(nnx.GroupNorm):
    """Groups of channels normalised within an image (Wu and He 2018, "Group Normalization"), in float32 likewise."""

    def __call__(self, x: Float[Array, "B y x C"], *, mask: Array | None = None) -> Float[Array, "B y x C"]:
        return super().__call__(x.astype(jnp.float32), mask=mask).astype(x.dtype)


class FeedForward(nnx.Module):
    r"""$$\mathrm{FFN}(x) = \max(0,\ x W_1 + b_1)\, W_2 + b_2$$ (Vaswani et al. 2017, equation 2).

    Later networks have another `activation` in place of max(0, x).
    """

    def __init__(self, width: int, hidden: int, activation: Activation = jax.nn.relu, *, rngs: nnx.Rngs):
        self.linear_1 = Linear(width, hidden, rngs=rngs)
        self.linear_2 = Linear(hidden, width, rngs=rngs)
        self.activation = activation

    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        return self.linear_2(self.activation(self.linear_1(x)))
