"""Our names for published weights of Vision Transformers: timm's, torchvision's, Hugging Face's ViT, CLIP and BLIP."""

import re
from collections.abc import Mapping

import numpy as np

from captioner_jax.config import EncoderKind
from captioner_jax.model.vit import SIZES
from captioner_jax.pretrained.layouts import placed

# Of a block, in whichever way it is written.
_TIMM = r"blocks\.(\d+)"
_TORCHVISION = r"encoder\.layers\.encoder_layer_(\d+)"
_VIT = r"(?:vit\.)?(?:encoder\.layer|layers)\.(\d+)"
_CLIP = r"(?:vision_model\.)?encoder\.layers\.(\d+)"  # and BLIP

# Theirs, and ours. What is fused there (q, k and v in a row) is called qkv here.
PLACES = [
    (r"(?:vit\.embeddings\.|embeddings\.)?(?:cls_token|class_token)", "class_token"),
    (r"(?:vision_model\.)?embeddings\.class_embedding", "class_token"),
    (r"pos_embed|encoder\.pos_embedding|(?:vit\.)?embeddings\.position_embeddings", "positions"),
    (r"(?:vision_model\.)?embeddings\.position_embedding(?:\.weight)?", "positions"),
    (r"(?:patch_embed\.proj|conv_proj|(?:vit\.)?embeddings\.patch_embeddings\.projection)\.(\w+)", r"patches.\1"),
    (r"(?:vision_model\.)?embeddings\.patch_embedding\.(\w+)", r"patches.\1"),
    (r"(?:vision_model\.)?pre_layrnorm\.(\w+)", r"norm_before.\1"),
    (r"(?:norm|encoder\.ln|(?:vit\.)?layernorm|(?:vision_model\.)?post_layernorm)\.(\w+)", r"norm.\1"),
    (rf"{_TIMM}\.norm(\d)\.(\w+)", r"blocks.\1.norm_\2.\3"),
    (rf"{_TORCHVISION}\.ln_(\d)\.(\w+)", r"blocks.\1.norm_\2.\3"),
    (rf"{_VIT}\.layernorm_before\.(\w+)", r"blocks.\1.norm_1.\2"),
    (rf"{_VIT}\.layernorm_after\.(\w+)", r"blocks.\1.norm_2.\2"),
    (rf"{_CLIP}\.layer_norm(\d)\.(\w+)", r"blocks.\1.norm_\2.\3"),
    (rf"{_TIMM}\.attn\.qkv\.(\w+)", r"blocks.\1.attention.qkv.\2"),
    (rf"(?:{_TORCHVISION}\.self_attention\.in_proj_|{_CLIP}\.self_attn\.qkv\.)(\w+)", r"blocks.\1\2.attention.qkv.\3"),
    (rf"{_VIT}\.attention\.attention\.([qkv])(?:uery|ey|alue)\.(\w+)", r"blocks.\1.attention.\2.\3"),
    (rf"{_VIT}\.attention\.([qkvo])_proj\.(\w+)", r"blocks.\1.attention.\2.\3"),
    (rf"{_CLIP}\.self_attn\.([qkv])_proj\.(\w+)", r"blocks.\1.attention.\2.\3"),
    (rf"{_TIMM}\.attn\.proj\.(\w+)", r"blocks.\1.attention.o.\2"),
    (rf"{_TORCHVISION}\.self_attention\.out_proj\.(\w+)", r"blocks.\1.attention.o.\2"),
    (rf"{_VIT}\.attention\.output\.dense\.(\w+)", r"blocks.\1.attention.o.\2"),
    (rf"{_CLIP}\.self_attn\.(?:out_proj|projection)\.(\w+)", r"blocks.\1.attention.o.\2"),
    (rf"(?:{_TIMM}|{_VIT}|{_CLIP})\.mlp\.fc(\d)\.(\w+)", r"blocks.\1\2\3.linear_\4.\5"),
    (rf"{_TORCHVISION}\.mlp\.linear_(\d)\.(\w+)", r"blocks.\1.linear_\2.\3"),
    (rf"{_TORCHVISION}\.mlp\.0\.(\w+)", r"blocks.\1.linear_1.\2"),
    (rf"{_TORCHVISION}\.mlp\.3\.(\w+)", r"blocks.\1.linear_2.\2"),
    (rf"{_VIT}\.intermediate\.dense\.(\w+)", r"blocks.\1.linear_1.\2"),
    (rf"{_VIT}\.output\.dense\.(\w+)", r"blocks.\1.linear_2.\2"),
]
# Classifiers; of CLIP and BLIP also their other towers, heads and projections.
UNUSED = re.compile(
    r"(head|heads|classifier|fc_norm|text_model|text_decoder|text_encoder|itm_head|(vit\.)?pooler)\..*"
    r"|(text|visual)_projection\.weight|(text|vision)_proj\..*|logit_scale|.*position_ids"
)
# Of CLIP, the norm of its class token.
OF_CLASS = re.compile(r"(vision_model\.)?post_layernorm\..*")


def to_ours(tensors: Mapping[str, np.ndarray], kind: EncoderKind) -> dict[str, np.ndarray]:
    """Tensors of a Vision Transformer by our dotted names, in our layouts.

    What has no use here is left out. What is of no known name, or too odd a shape, comes back as it is.
    """
    ours: dict[str, np.ndarray] = {}
    for name, tensor in tensors.items():
        if UNUSED.fullmatch(name) or (kind.startswith("clip") and OF_CLASS.fullmatch(name)):
            continue
        ours |= placed(name, tensor, PLACES, SIZES[kind].heads)
    return ours
