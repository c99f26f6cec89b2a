"""The small pieces that blocks share: normalisation, dropout, linear maps, the position-wise feed-forward network."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float


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
    r"""$$\mathrm{FFN}(x) = \max(0,\ x W_1 + b_1)\, W_2 + b_2$$ (Vaswani et al. 2017, equation 2)."""

    def __init__(self, width: int, hidden: int, *, rngs: nnx.Rngs):
        self.linear_1 = Linear(width, hidden, rngs=rngs)
        self.linear_2 = Linear(hidden, width, rngs=rngs)

    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        return self.linear_2(jax.nn.relu(self.linear_1(x)))
