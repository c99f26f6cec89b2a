"""Our names for published weights of the convolutional encoders: torchvision's, timm's (alike) and Hugging Face's."""

import re
from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from captioner_jax.config import EncoderKind
from captioner_jax.model.vgg import CONVOLUTIONS

# Theirs, and ours by the numbers in it. Stages and convolutions are counted from 1 there and from 0 here.
Places: TypeAlias = list[tuple[str, Callable[..., str]]]

RESNET: Places = [
    (r"conv1", lambda: "stem"),
    (r"bn1", lambda: "stem.norm"),
    (r"layer(\d)\.(\d+)\.conv(\d)", lambda stage, block, i: f"blocks.{stage - 1}.{block}.convolutions.{i - 1}"),
    (r"layer(\d)\.(\d+)\.bn(\d)", lambda stage, block, i: f"blocks.{stage - 1}.{block}.convolutions.{i - 1}.norm"),
    (r"layer(\d)\.(\d+)\.downsample\.0", lambda stage, block: f"blocks.{stage - 1}.{block}.shortcut"),
    (r"layer(\d)\.(\d+)\.downsample\.1", lambda stage, block: f"blocks.{stage - 1}.{block}.shortcut.norm"),
]

# A model without its classifier is saved without the prefix.
_STAGE = r"(?:resnet\.)?encoder\.stages\.(\d)\.layers\.(\d+)"
HUGGING_FACE_RESNET: Places = [
    (r"(?:resnet\.)?embedder\.embedder\.convolution", lambda: "stem"),
    (r"(?:resnet\.)?embedder\.embedder\.normalization", lambda: "stem.norm"),
    (_STAGE + r"\.layer\.(\d)\.convolution", lambda stage, block, i: f"blocks.{stage}.{block}.convolutions.{i}"),
    (_STAGE + r"\.layer\.(\d)\.normalization", lambda stage, block, i: f"blocks.{stage}.{block}.convolutions.{i}.norm"),
    (_STAGE + r"\.shortcut\.convolution", lambda stage, block: f"blocks.{stage}.{block}.shortcut"),
    (_STAGE + r"\.shortcut\.normalization", lambda stage, block: f"blocks.{stage}.{block}.shortcut.norm"),
]

# Until 2018 a layer's parts were written norm.1 and conv.2; files of that time are still given out.
_LAYER = r"features\.denseblock(\d)\.denselayer(\d+)"
DENSENET: Places = [
    (r"features\.conv0", lambda: "stem"),
    (r"features\.norm0", lambda: "stem.norm"),
    (_LAYER + r"\.norm\.?1", lambda block, layer: f"blocks.{block - 1}.{layer - 1}.norm"),
    (_LAYER + r"\.conv\.?1", lambda block, layer: f"blocks.{block - 1}.{layer - 1}.conv_1"),
    (_LAYER + r"\.norm\.?2", lambda block, layer: f"blocks.{block - 1}.{layer - 1}.conv_1.norm"),
    (_LAYER + r"\.conv\.?2", lambda block, layer: f"blocks.{block - 1}.{layer - 1}.conv_2"),
    (r"features\.transition(\d)\.norm", lambda block: f"transitions.{block - 1}.norm"),
    (r"features\.transition(\d)\.conv", lambda block: f"transitions.{block - 1}.conv"),
    (r"features\.norm5", lambda: "norm"),
]


def vgg(kind: EncoderKind) -> Places:
    """VGG's layers have one number each, in which relu, pooling and normalisation count."""
    places: Places = []
    number = 0
    for stage, count in enumerate(CONVOLUTIONS[kind.removesuffix("_bn")]):
        for i in range(count):
            ours = f"convolutions.{stage}.{i}"
            places.append((rf"features\.{number}", lambda ours=ours: ours))
            if kind.endswith("_bn"):
                number += 1
                places.append((rf"features\.{number}", lambda ours=ours: f"{ours}.norm"))
            number += 2
        number += 1
    return places


CLASSIFIER = re.compile(r"(fc|classifier|pre_logits|head)\..*")
NORM = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "variance"}
CONVOLUTION = {"weight": "kernel", "bias": "bias"}


def to_ours(tensors: Mapping[str, np.ndarray], kind: EncoderKind) -> dict[str, np.ndarray]:
    """Tensors of a convolutional `kind` by our dotted names, kernels turned from [out in y x] to [y x in out].

    Classifiers and counts of batches are left out. What is of no known name comes back as it is.
    """
    places = _places(kind)
    ours = {}
    for name, tensor in tensors.items():
        if CLASSIFIER.fullmatch(name) or name.endswith(".num_batches_tracked"):
            continue
        turned = tensor.transpose(2, 3, 1, 0) if tensor.ndim == 4 else tensor
        renamed = _renamed(name, places)
        ours.update({name: tensor} if renamed is None else {renamed: turned})
    return ours


def _places(kind: EncoderKind) -> Places:
    if kind.startswith("resnet"):
        return RESNET + HUGGING_FACE_RESNET
    return DENSENET if kind.startswith("densenet") else vgg(kind)


def _renamed(name: str, places: Places) -> str | None:
    module, _, parameter = name.rpartition(".")
    for pattern, place in places:
        if match := re.fullmatch(pattern, module):
            ours = place(*map(int, match.groups()))
            parameters = NORM if ours.endswith("norm") else CONVOLUTION
            return f"{ours}.{parameters[parameter]}" if parameter in parameters else None
    return None
