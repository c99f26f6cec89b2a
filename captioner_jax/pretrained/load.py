"""Published weights for an encoder: read, renamed, compared with what it wants."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from captioner_jax.config import EncoderConfig
from captioner_jax.data.images import DEVIATION, MEAN
from captioner_jax.errors import UserError
from captioner_jax.model.convolutions import EPSILON
from captioner_jax.model.names import stage_of
from captioner_jax.pretrained import convolutional_names, vit_names
from captioner_jax.pretrained.files import Weights, read_weights

NORMALISATIONS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "imagenet": (MEAN, DEVIATION),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
}
"""Mean and standard deviation, in red, green and blue, by which those who publish weights normalise pixels in [0,1]."""

_BOTTLENECKS = ("resnet50", "resnet101", "resnet152")
# Where a stage of each version halves the grid.
_STRIDES = {"1": "the first 1x1", "1.5": "the 3x3"}
_SHOWN = 10


class Loaded(NamedTuple):
    """Published weights under our names, float32; what must be learnt from scratch; a key of `NORMALISATIONS`."""

    arrays: dict[str, np.ndarray]
    from_scratch: list[str]
    normalisation: str
    origin: str


def load_into(
    config: EncoderConfig, wanted: Mapping[str, tuple[int, ...]], complete: Mapping[str, tuple[int, ...]]
) -> Loaded:
    """The weights of `config.weights` for the names and shapes `wanted`.

    Those of stages that are not wanted are left out; `complete` has the names of all. Whole stages at the end that the
    file does not have are to be learnt from scratch. Raises UserError where the weights cannot be read, name by name
    where they are of another encoder, and where they were trained for something that the configuration contradicts.
    """
    if config.weights is None:
        raise ValueError("the configuration names no weights")
    weights = read_weights(config.weights)
    _check_strides(config, weights)
    ours = _with_our_epsilon(_renamed(weights.tensors, config), weights)
    missing = [name for name in wanted if name not in ours]
    from_scratch = missing if _are_last_stages(missing, wanted) else []
    if found := mistakes(ours, wanted, complete, [] if from_scratch else missing):
        raise UserError("\n".join([f"{weights.origin} does not hold the weights of {config.kind}:", *found]))
    arrays = {name: np.asarray(ours[name], np.float32, order="C") for name in wanted if name in ours}
    return Loaded(arrays, from_scratch, _normalisation(config, weights), weights.origin)


def _renamed(tensors: Mapping[str, np.ndarray], config: EncoderConfig) -> dict[str, np.ndarray]:
    if config.kind == "convnet":
        raise UserError("no weights are published for convnet: choose another --model.encoder.kind, or no weights")
    names = vit_names if config.kind.startswith(("vit", "clip", "blip")) else convolutional_names
    return names.to_ours(tensors, config.kind)


def _check_strides(config: EncoderConfig, weights: Weights) -> None:
    """Raises UserError where the file says that its network halves the grid elsewhere than ours would."""
    told = weights.metadata.get("stride", "").partition(":")[0].removeprefix("v")
    if told in _STRIDES and config.kind in _BOTTLENECKS and config.resnet_version != told:
        raise UserError(
            f"{weights.origin} strides in {_STRIDES[told]} convolution of a stage: set --model.encoder.resnet-version "
            f"{told}"
        )


def _with_our_epsilon(tensors: dict[str, np.ndarray], weights: Weights) -> dict[str, np.ndarray]:
    r"""$$\sigma^2 + \epsilon_{file} = (\sigma^2 + \epsilon_{file} - \epsilon) + \epsilon$$ so another epsilon of batch
    normalisation, which the file may tell, goes into the running variances.
    """
    told = weights.metadata.get("bn_eps", str(EPSILON)).partition(" ")[0]
    try:
        epsilon = float(told)
        if not 0 <= epsilon < 1:
            raise ValueError(told)
    except ValueError as error:
        raise UserError(f"{weights.origin} tells of a bn_eps that is no number from 0 to 1: {told!r}") from error
    return {
        name: tensor.astype(np.float32) + np.float32(epsilon - EPSILON) if name.endswith(".variance") else tensor
        for name, tensor in tensors.items()
    }


def _are_last_stages(missing: list[str], wanted: Iterable[str]) -> bool:
    """Whether the names are all those of one or more stages at the end, but not of the first stage."""
    stages = {name: stage_of(name.split(".")) for name in wanted}
    last = max((stage for stage in stages.values() if stage < math.inf), default=0.0)
    stages = {name: min(stage, last) for name, stage in stages.items()}
    first = min((stages[name] for name in missing), default=0.0)
    return first > 0 and set(missing) == {name for name, stage in stages.items() if stage >= first}


def mistakes(
    ours: Mapping[str, np.ndarray],
    wanted: Mapping[str, tuple[int, ...]],
    complete: Mapping[str, tuple[int, ...]],
    missing: list[str],
) -> list[str]:
    """A line for each way in which the weights are not those of the encoder."""
    shaped = [(name, ours[name].shape, shape) for name, shape in wanted.items() if name in ours]
    found = {
        "missing": missing,
        "not known": [name for name in ours if name not in complete],
        "of another shape": [f"{name} {_x(has)} for {_x(wants)}" for name, has, wants in shaped if has != wants],
    }
    return [f"{len(names):,} {what}: {_some(names)}" for what, names in found.items() if names]


def _x(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _some(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(sorted(names)[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def _normalisation(config: EncoderConfig, weights: Weights) -> str:
    """As configured; as published beside the weights; as all who publish such have it.

    Raises UserError for one not known, and where nobody tells and those who publish such differ.
    """
    if config.normalisation is not None:
        return config.normalisation
    if weights.preprocessor is not None:
        return _of_preprocessor(weights.preprocessor, weights.origin)
    if config.kind.startswith(("clip", "blip")):
        return "clip"
    if config.kind.startswith("vit") and "conv_proj.weight" not in weights.tensors:  # which is torchvision's name
        raise UserError(
            f"{weights.origin} has no card beside it that tells what its pixels were normalised by: set "
            "--model.encoder.normalisation half (most of Google's and timm's) or imagenet (DeiT, DINO)"
        )
    return "imagenet"


def _of_preprocessor(preprocessor: dict[str, Any], origin: str) -> str:
    told = preprocessor["image_mean"], preprocessor["image_std"]
    for name, published in NORMALISATIONS.items():
        if all(map(_near, told, published)):
            return name
    raise UserError(
        f"{origin}: its images are normalised by mean {told[0]} and standard deviation {told[1]}, which is none of "
        f"{', '.join(NORMALISATIONS)}: if one of them will do, set --model.encoder.normalisation"
    )


def _near(told: Any, published: tuple[float, float, float]) -> bool:
    """Whether three numbers are told, and each within 0.001 of those published."""
    is_list = (
        isinstance(told, list)
        and len(told) == 3
        and all(isinstance(value, int | float) and abs(value) < 1e9 for value in told)
    )
    return is_list and all(abs(a - b) < 1e-3 for a, b in zip(told, published, strict=True))
