"""VGG (Simonyan and Zisserman 2014, "Very Deep Convolutional Networks for Large-Scale Image Recognition")."""

import jax
from flax import nnx
from jaxtyping import Array, Float

from captioner_jax.config import EncoderConfig
from captioner_jax.model.convolutions import Conv, ConvNorm, max_pool
from captioner_jax.model.stages import Staged, first_stages

# Table 1, columns A, B, D and E: 3x3 convolutions of each stage, and their width.
CONVOLUTIONS = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
WIDTHS = (64, 128, 256, 512, 512)


class VGG(Staged):
    """Five stages of 3x3 convolutions with max pooling between them; in kinds that end in _bn they are normalised.

    The pooling after the last stage is left out, so that an image of 224x224 gives 14x14 cells, as the annotations
    of Xu et al. (2015, "Show, Attend and Tell", section 4.3).
    """

    def __init__(self, config: EncoderConfig, *, rngs: nnx.Rngs):
        """Raises ValueError where `ends_after` or `frozen_stages` is more than the five stages allow."""
        kind, normalised = config.kind.removesuffix("_bn"), config.kind.endswith("_bn")
        trained = config.batch_norm == "trained"
        self.channels = 3
        stages: list[nnx.List[Conv]] = []
        for count, width in first_stages(list(zip(CONVOLUTIONS[kind], WIDTHS, strict=True)), config):
            convolutions: list[Conv] = []
            for _ in range(count):
                convolutions.append(
                    ConvNorm(self.channels, width, 3, biased=True, trained=trained, rngs=rngs)
                    if normalised
                    else Conv(self.channels, width, 3, biased=True, rngs=rngs)
                )
                self.channels = width
            stages.append(nnx.List(convolutions))
        self.convolutions = nnx.List(stages)
        self.set_depth(len(stages), config)

    def enter(self, images: Float[Array, "B Y X 3"], rngs: nnx.Rngs | None) -> Float[Array, "B Y X 3"]:
        """The images themselves."""
        return images

    def stage(self, i: int, x: Float[Array, "B Y X C"], rngs: nnx.Rngs | None) -> Float[Array, "B Y X D"]:
        """Its convolutions, each rectified."""
        for convolution in self.convolutions[i]:
            x = jax.nn.relu(convolution(x, rngs))
        return x

    def onward(self, i: int, x: Float[Array, "B Y X C"], rngs: nnx.Rngs | None) -> Float[Array, "B y x C"]:
        """Pooled."""
        return max_pool(x, 2, stride=2)
