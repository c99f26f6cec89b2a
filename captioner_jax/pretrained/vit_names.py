"""Our names for published weights of Vision Transformers: timm's, torchvision's, Hugging Face's ViT and CLIP."""

import re
from collections.abc import Mapping

import numpy as np

from captioner_jax.config import EncoderKind
from captioner_jax.model.vit import SIZES

# Of a block, in whichever way it is written.
_TIMM = r"blocks\.(\d+)"
_TORCHVISION = r"encoder\.layers\.encoder_layer_(\d+)"
_VIT = r"(?:vit\.)?(?:encoder\.layer|layers)\.(\d+)"
_CLIP = r"(?:vision_model\.)?encoder\.layers\.(\d+)"

# Theirs, and ours. What is fused there (q, k and v in a row) is called qkv here.
PLACES = [
    (r"(?:vit\.embeddings\.|embeddings\.)?(?:cls_token|class_token)", "class_token"),
    (r"(?:vision_model\.)?embeddings\.class_embedding", "class_token"),
    (r"pos_embed|encoder\.pos_embedding|(?:vit\.)?embeddings\.position_embeddings", "positions"),
    (r"(?:vision_model\.)?embeddings\.position_embedding\.weight", "positions"),
    (r"(?:patch_embed\.proj|conv_proj|(?:vit\.)?embeddings\.patch_embeddings\.projection)\.(\w+)", r"patches.\1"),
    (r"(?:vision_model\.)?embeddings\.patch_embedding\.(\w+)", r"patches.\1"),
    (r"(?:vision_model\.)?pre_layrnorm\.(\w+)", r"norm_before.\1"),
    (r"(?:norm|encoder\.ln|(?:vit\.)?layernorm)\.(\w+)", r"norm.\1"),
    (rf"{_TIMM}\.norm(\d)\.(\w+)", r"blocks.\1.norm_\2.\3"),
    (rf"{_TORCHVISION}\.ln_(\d)\.(\w+)", r"blocks.\1.norm_\2.\3"),
    (rf"{_VIT}\.layernorm_before\.(\w+)", r"blocks.\1.norm_1.\2"),
    (rf"{_VIT}\.layernorm_after\.(\w+)", r"blocks.\1.norm_2.\2"),
    (rf"{_CLIP}\.layer_norm(\d)\.(\w+)", r"blocks.\1.norm_\2.\3"),
    (rf"{_TIMM}\.attn\.qkv\.(\w+)", r"blocks.\1.attention.qkv.\2"),
    (rf"{_TORCHVISION}\.self_attention\.in_proj_(\w+)", r"blocks.\1.attention.qkv.\2"),
    (rf"{_VIT}\.attention\.attention\.([qkv])(?:uery|ey|alue)\.(\w+)", r"blocks.\1.attention.\2.\3"),
    (rf"{_VIT}\.attention\.([qkvo])_proj\.(\w+)", r"blocks.\1.attention.\2.\3"),
    (rf"{_CLIP}\.self_attn\.([qkv])_proj\.(\w+)", r"blocks.\1.attention.\2.\3"),
    (rf"{_TIMM}\.attn\.proj\.(\w+)", r"blocks.\1.attention.o.\2"),
    (rf"{_TORCHVISION}\.self_attention\.out_proj\.(\w+)", r"blocks.\1.attention.o.\2"),
    (rf"{_VIT}\.attention\.output\.dense\.(\w+)", r"blocks.\1.attention.o.\2"),
    (rf"{_CLIP}\.self_attn\.out_proj\.(\w+)", r"blocks.\1.attention.o.\2"),
    (rf"(?:{_TIMM}|{_VIT}|{_CLIP})\.mlp\.fc(\d)\.(\w+)", r"blocks.\1\2\3.linear_\4.\5"),
    (rf"{_TORCHVISION}\.mlp\.linear_(\d)\.(\w+)", r"blocks.\1.linear_\2.\3"),
    (rf"{_TORCHVISION}\.mlp\.0\.(\w+)", r"blocks.\1.linear_1.\2"),
    (rf"{_TORCHVISION}\.mlp\.3\.(\w+)", r"blocks.\1.linear_2.\2"),
    (rf"{_VIT}\.intermediate\.dense\.(\w+)", r"blocks.\1.linear_1.\2"),
    (rf"{_VIT}\.output\.dense\.(\w+)", r"blocks.\1.linear_2.\2"),
]
# Classifiers; of CLIP also its text tower, its projections, and the norm of its class token.
UNUSED = re.compile(
    r"(head|heads|classifier|fc_norm|text_model|(vit\.)?pooler|(vision_model\.)?post_layernorm)\..*"
    r"|(text|visual)_projection\.weight|logit_scale|.*position_ids"
)


def to_ours(tensors: Mapping[str, np.ndarray], kind: EncoderKind) -> dict[str, np.ndarray]:
    """Tensors of a Vision Transformer by our dotted names, in our layouts.

    What has no use here is left out. What is of no known name, or too odd a shape, comes back as it is.
    """
    ours: dict[str, np.ndarray] = {}
    for name, tensor in tensors.items():
        if UNUSED.fullmatch(name):
            continue
        place = _place(name)
        try:
            ours.update(_laid_out(place, tensor, SIZES[kind].heads) if place else {name: tensor})
        except (ValueError, IndexError):  # it does not divide into heads, or has another number of axes
            ours[name] = tensor
    return ours


def _place(name: str) -> str | None:
    for pattern, ours in PLACES:
        if match := re.fullmatch(pattern, name):
            return re.sub(r"\\(\d)", lambda number: match[int(number[1])] or "", ours)
    return None


def _laid_out(place: str, tensor: np.ndarray, heads: int) -> dict[str, np.ndarray]:
    """A tensor under its full name; where q, k and v are fused, the three. Raises ValueError for an odd shape."""
    module, _, parameter = place.rpartition(".")
    *above, last = module.split(".")
    if place in ("class_token", "positions"):
        return {place: tensor.reshape(tensor.shape[-1:] if place == "class_token" else tensor.shape[-2:])}
    if above[-1:] == ["attention"]:
        parts = np.split(tensor, 3) if last == "qkv" else [tensor]
        inside = ".".join(above)
        return dict(_projection(inside, name, part, heads) for name, part in zip(last, parts, strict=True))
    if "norm" in last:
        return {f"{module}.{'scale' if parameter == 'weight' else 'bias'}": tensor}
    if parameter == "bias":
        return {f"{module}.bias": tensor}
    if tensor.ndim == 4:  # [D 3 y x] -> [y x 3 D], a patch's pixels in a row
        tensor = tensor.transpose(0, 2, 3, 1).reshape(len(tensor), -1)
    return {f"{module}.kernel": tensor.transpose()}


def _projection(module: str, name: str, tensor: np.ndarray, heads: int) -> tuple[str, np.ndarray]:
    """[out in] to [D N H]; into the output, [out in] to [N H D]. Of biases [N H], and [D]."""
    if tensor.ndim == 1:
        return f"{module}.bias.{name}", tensor if name == "o" else tensor.reshape(heads, -1)
    turned = tensor.transpose()
    rows, columns = turned.shape
    shape = (heads, rows // heads, columns) if name == "o" else (rows, heads, columns // heads)
    return f"{module}.w_{name}", turned.reshape(shape)
