"""The encoder that a configuration names: images in, a grid of cells out."""

from typing import Protocol, runtime_checkable

from flax import nnx
from jaxtyping import Array, Float

from captioner_jax.config import EncoderConfig
from captioner_jax.model.convnet import ConvNet
from captioner_jax.model.densenet import DenseNet
from captioner_jax.model.resnet import ResNet
from captioner_jax.model.vgg import VGG
from captioner_jax.model.vit import ViT


@runtime_checkable
class Encoder(Protocol):
    """`channels` is C. `rngs` are passed in training, where batch normalisation may learn its statistics."""

    channels: int

    def __call__(self, images: Float[Array, "B Y X 3"], rngs: nnx.Rngs | None = None) -> Float[Array, "B y x C"]: ...


def make_encoder(config: EncoderConfig, *, rngs: nnx.Rngs) -> Encoder:
    """Raises ValueError where the configuration contradicts itself."""
    family = config.kind.rstrip("0123456789").removesuffix("_bn").rstrip("0123456789")
    match family:
        case "convnet":
            return ConvNet(config, rngs=rngs)
        case "resnet":
            return ResNet(config, rngs=rngs)
        case "vgg":
            return VGG(config, rngs=rngs)
        case "densenet":
            return DenseNet(config, rngs=rngs)
        case _:
            return ViT(config, rngs=rngs)
