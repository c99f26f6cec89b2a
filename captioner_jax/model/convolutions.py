"""What the classic convolutional encoders are built of: convolution, batch normalisation, pooling."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

EPSILON = 1e-5
MOMENTUM = 0.1
"""Share of the newest batch in the running statistics; PyTorch's way of counting, 1 - momentum in other places."""

# Gradients keep their size on the way back (He et al. 2015, "Delving Deep into Rectifiers", equation 14).
he_normal = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")


def convolve(
    x: Float[Array, "B Y X C"], kernel: Float[Array, "size size C D"], stride: int = 1
) -> Float[Array, "B y x D"]:
    """Padded with zeros by half the kernel on every side, whatever the stride, as PyTorch's networks are.

    With a kernel of 1x1 it is a matrix product, which is faster on CPU written so, with all cells in one axis for the
    sake of its gradient (`layers.Linear`); what a stride leaves out never enters it.
    """
    kernel = kernel.astype(x.dtype)
    size = kernel.shape[0]
    if size == 1:
        if stride > 1:  # kept out of the product: XLA for GPUs breaks off where both are one (openxla/xla, issue 47381)
            x = jax.lax.optimization_barrier(x[:, ::stride, ::stride])
        return (x.reshape(-1, x.shape[-1]) @ kernel[0, 0]).reshape(*x.shape[:-1], kernel.shape[-1])
    padding = [(size // 2, size // 2)] * 2
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def max_pool(x: Float[Array, "B Y X C"], size: int, *, stride: int, padding: int = 0) -> Float[Array, "B y x C"]:
    """The largest of each window; windows may reach over the edges by `padding`.

    First over rows, then over columns, by comparing shifted copies: on CPU the gradient of that takes an eighth of the
    time of `reduce_window`'s. Cells that are equally large share it.
    """
    edges = [(0, 0), (padding, padding), (padding, padding), (0, 0)]
    x = jnp.pad(x, edges, constant_values=-jnp.inf)
    return _largest(_largest(x, 1, size, stride), 2, size, stride)


def _largest(x: Float[Array, "B Y X C"], axis: int, size: int, stride: int) -> Float[Array, "B _ _ C"]:
    """Of `size` neighbours along an axis."""
    last = x.shape[axis] - size + 1
    return functools.reduce(jnp.maximum, [jax.lax.slice_in_dim(x, i, last + i, stride, axis) for i in range(size)])


class Conv(nnx.Module):
    """A convolution, its kernel `size` cells wide (odd), with or without a bias."""

    def __init__(self, into: int, out: int, size: int, *, stride: int = 1, biased: bool = False, rngs: nnx.Rngs):
        self.kernel = nnx.Param(he_normal(rngs.params(), (size, size, into, out)))
        self.bias = nnx.Param(jnp.zeros(out)) if biased else None
        self.stride = stride

    def __call__(self, x: Float[Array, "B Y X C"], rngs: nnx.Rngs | None = None) -> Float[Array, "B y x D"]:
        """In training, where there are `rngs`, the same as elsewhere."""
        y = convolve(x, self.kernel[...], self.stride)
        return y if self.bias is None else y + _of_channels(self.bias[...]).astype(y.dtype)


class BatchNorm(nnx.Module):
    r"""$$y = \gamma\, \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta$$ in each channel (Ioffe and Szegedy 2015,
    "Batch Normalization", algorithm 1).

    While it is trained, mu and sigma^2 are those of the batch, over all its images and cells; the running statistics
    follow them in place. Under `jit` that is the whole batch, on however many devices it lies; where each device has a
    program of its own, `across` names the axis of devices to average over. In inference, or always where it is not
    trained, they are the running ones (algorithm 2). All in float32, whatever the type of x.
    """

    def __init__(self, channels: int, *, trained: bool):
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))
        self.mean = nnx.BatchStat(jnp.zeros(channels))
        self.variance = nnx.BatchStat(jnp.ones(channels))
        self.trained = trained
        self.across: str | None = None

    def __call__(self, x: Float[Array, "B y x C"], rngs: nnx.Rngs | None = None) -> Float[Array, "B y x C"]:
        gain, shift = self.of_batch(x) if self.learns(rngs) else self.of_running()
        return (x.astype(jnp.float32) * _of_channels(gain) + _of_channels(shift)).astype(x.dtype)

    def learns(self, rngs: nnx.Rngs | None) -> bool:
        """Whether this is training, and statistics are trained in it."""
        return self.trained and rngs is not None

    def of_running(self) -> tuple[Float[Array, " C"], Float[Array, " C"]]:
        """The norm by the running statistics as gain and shift: y = gain x + shift."""
        return self._affine(self.mean[...], self.variance[...])

    def of_batch(self, x: Float[Array, "B y x C"]) -> tuple[Float[Array, " C"], Float[Array, " C"]]:
        """The norm by the statistics of x as gain and shift; the running statistics take a step towards them.

        The running variance is of the unbiased kind, n / (n - 1) times what the batch is normalised by.
        """
        x = x.astype(jnp.float32)
        mean = self._everywhere(jnp.mean(x, (0, 1, 2)))
        # By way of the mean the variance has no gradient, as deviations from it add up to nought: none is computed.
        centred = x - _of_channels(jax.lax.stop_gradient(mean))
        variance = self._everywhere(jnp.mean(jnp.square(centred), (0, 1, 2)))
        n = x.size // x.shape[-1] * (1 if self.across is None else jax.lax.axis_size(self.across))
        self.mean[...] += MOMENTUM * (mean - self.mean[...])
        self.variance[...] += MOMENTUM * (variance * n / max(n - 1, 1) - self.variance[...])
        return self._affine(mean, variance)

    def _everywhere(self, mean: Float[Array, " C"]) -> Float[Array, " C"]:
        """Of shares of a batch, which are of one size."""
        return mean if self.across is None else jax.lax.pmean(mean, self.across)

    def _affine(
        self, mean: Float[Array, " C"], variance: Float[Array, " C"]
    ) -> tuple[Float[Array, " C"], Float[Array, " C"]]:
        gain = self.scale[...].astype(jnp.float32) * (variance + EPSILON) ** -0.5
        return gain, self.bias[...].astype(jnp.float32) - gain * mean


class ConvNorm(Conv):
    r"""A convolution and the batch normalisation of what it gives. By running statistics they are one convolution:

    $$\mathrm{norm}(W * x) = (g W) * x + s$$ with gain g and shift s of each output channel (Ioffe and Szegedy 2015,
    algorithm 2, line 11).
    """

    def __init__(
        self,
        into: int,
        out: int,
        size: int,
        *,
        stride: int = 1,
        biased: bool = False,
        trained: bool,
        rngs: nnx.Rngs,
    ):
        super().__init__(into, out, size, stride=stride, biased=biased, rngs=rngs)
        self.norm: BatchNorm | None = BatchNorm(out, trained=trained)

    def __call__(self, x: Float[Array, "B Y X C"], rngs: nnx.Rngs | None = None) -> Float[Array, "B y x D"]:
        if self.norm is None:
            return super().__call__(x)
        if self.norm.learns(rngs):
            return self.norm(super().__call__(x), rngs)
        kernel, shift = self._as_one(self.norm)
        return convolve(x, kernel, self.stride) + _of_channels(shift).astype(x.dtype)

    def fold(self) -> None:
        """The norm becomes a part of kernel and bias, once and for all, so that no call has to do it."""
        if self.norm is not None:
            kernel, shift = self._as_one(self.norm)
            self.kernel, self.bias, self.norm = nnx.Param(kernel), nnx.data(nnx.Param(shift)), None

    def _as_one(self, norm: BatchNorm) -> tuple[Float[Array, "size size C D"], Float[Array, " D"]]:
        """Kernel and bias of the one convolution, by running statistics."""
        gain, shift = norm.of_running()
        if self.bias is not None:
            shift += gain * self.bias[...].astype(jnp.float32)
        return self.kernel[...].astype(jnp.float32) * _of_channels(gain), shift


def fold_norms(model: nnx.Module) -> None:
    """Each batch norm of what a convolution gives becomes a part of it: the same in inference, and less to do."""
    for _, module in nnx.iter_modules(model):
        if isinstance(module, ConvNorm):
            module.fold()


def _of_channels(values: Float[Array, " C"]) -> Float[Array, "1 1 1 C"]:
    return values[None, None, None]
