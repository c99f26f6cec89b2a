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


def make_encoder(config: EncoderConfig, *, with_class: bool = False, rngs: nnx.Rngs) -> Encoder:
    """`with_class` gives a Vision Transformer's class token and cells as one row.

    Raises ValueError where the configuration contradicts itself, and where there is no class token.
    """
    family = config.kind.rstrip("0123456789").removesuffix("_bn").rstrip("0123456789")
    if with_class and not config.kind.startswith(("vit", "clip", "blip")):
        raise ValueError(f"a decoder of published captioners looks at a class token, and {config.kind} has none")
    match family:
        case "convnet":
            return ConvNet(config, rngs=rngs)
        case "resnet":
            return ResNet(config, rngs=rngs)
        case "vgg":
            return VGG(config, rngs=rngs)
        case "densenet":
            return DenseNet(config, rngs=rngs)
        case _ if config.kind.startswith(("vit", "clip", "blip")):
            return ViT(config, with_class=with_class, rngs=rngs)
        case _:
            raise ValueError(f"there is no encoder for the kind {config.kind}")
