"""DenseNet (Huang et al. 2016, "Densely Connected Convolutional Networks")."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from captioner_jax.config import EncoderConfig
from captioner_jax.model.convolutions import BatchNorm, Conv, ConvNorm, max_pool
from captioner_jax.model.stages import Staged, first_stages

# Table 1: layers of each dense block.
LAYERS = {
    "densenet121": (6, 12, 24, 16),
    "densenet169": (6, 12, 32, 32),
    "densenet201": (6, 12, 48, 32),
}
STEM = 64
GROWTH = 32  # k, the channels that a layer adds
BOTTLENECK = 4 * GROWTH  # what its 1x1 convolution leaves of those before (section 3, "Bottleneck layers")


def average_pool(x: Float[Array, "B Y X C"]) -> Float[Array, "B y x C"]:
    """The mean of each 2x2 cells; an odd row or column at the end is left out."""
    height, width = x.shape[1] // 2, x.shape[2] // 2
    blocks = x[:, : 2 * height, : 2 * width].reshape(x.shape[0], height, 2, width, 2, x.shape[3])
    return blocks.mean((2, 4))


class DenseLayer(nnx.Module):
    r"""$$[x, H(x)], \qquad H = \mathrm{conv}_{3 \times 3} \circ \mathrm{relu} \circ \mathrm{norm} \circ
    \mathrm{conv}_{1 \times 1} \circ \mathrm{relu} \circ \mathrm{norm}$$ (equation 2, DenseNet-B)."""

    def __init__(self, into: int, *, trained: bool, rngs: nnx.Rngs):
        self.norm = BatchNorm(into, trained=trained)
        self.conv_1 = ConvNorm(into, BOTTLENECK, 1, trained=trained, rngs=rngs)
        self.conv_2 = Conv(BOTTLENECK, GROWTH, 3, rngs=rngs)

    def __call__(self, x: Float[Array, "B y x C"], rngs: nnx.Rngs | None = None) -> Float[Array, "B y x D"]:
        h = jax.nn.relu(self.conv_1(jax.nn.relu(self.norm(x, rngs)), rngs))
        return jnp.concatenate([x, self.conv_2(h)], axis=-1)


class Transition(nnx.Module):
    """Between dense blocks: half the channels (compression 0.5, DenseNet-C), and half the grid."""

    def __init__(self, into: int, *, trained: bool, rngs: nnx.Rngs):
        self.norm = BatchNorm(into, trained=trained)
        self.conv = Conv(into, into // 2, 1, rngs=rngs)

    def __call__(self, x: Float[Array, "B Y X C"], rngs: nnx.Rngs | None = None) -> Float[Array, "B y x D"]:
        return average_pool(self.conv(jax.nn.relu(self.norm(x, rngs))))


class DenseNet(Staged):
    """A 7x7 convolution, max pooling, then dense blocks with transitions between them.

    The stages are the blocks, at 1/4, 1/8, 1/16 and 1/32 of the image's side. The fourth is normalised and rectified,
    as the classifier takes it. An earlier one is the bare concatenation of what its layers gave, also where the
    network ends with it: the norm after it belongs to the transition.
    """

    def __init__(self, config: EncoderConfig, *, rngs: nnx.Rngs):
        """Raises ValueError where `ends_after` or `frozen_stages` is more than the four blocks allow."""
        trained = config.batch_norm == "trained"
        counts = LAYERS[config.kind]
        self.stem = ConvNorm(3, STEM, 7, stride=2, trained=trained, rngs=rngs)
        self.channels = STEM
        blocks: list[nnx.List[DenseLayer]] = []
        transitions: list[Transition] = []
        for count in first_stages(counts, config):
            if blocks:
                transitions.append(Transition(self.channels, trained=trained, rngs=rngs))
                self.channels //= 2
            layers = [DenseLayer(self.channels + i * GROWTH, trained=trained, rngs=rngs) for i in range(count)]
            blocks.append(nnx.List(layers))
            self.channels += count * GROWTH
        self.blocks = nnx.List(blocks)
        self.transitions = nnx.List(transitions)
        self.norm = BatchNorm(self.channels, trained=trained) if len(blocks) == len(counts) else None
        self.set_depth(len(blocks), config)

    def enter(self, images: Float[Array, "B Y X 3"], rngs: nnx.Rngs | None) -> Float[Array, "B y x C"]:
        """The first convolution and pooling."""
        return max_pool(jax.nn.relu(self.stem(images, rngs)), 3, stride=2, padding=1)

    def stage(self, i: int, x: Float[Array, "B y x C"], rngs: nnx.Rngs | None) -> Float[Array, "B y x D"]:
        """A dense block."""
        for layer in self.blocks[i]:
            x = layer(x, rngs)
        if self.norm is None or i < self.depth - 1:
            return x
        return jax.nn.relu(self.norm(x, rngs))

    def onward(self, i: int, x: Float[Array, "B Y X C"], rngs: nnx.Rngs | None) -> Float[Array, "B y x D"]:
        """Through the transition."""
        return self.transitions[i](x, rngs)
