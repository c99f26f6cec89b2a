"""Our names for whole captioners as transformers keeps them: a Vision Transformer and GPT-2, and BLIP."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from captioner_jax.config import ModelConfig
from captioner_jax.pretrained import vit_names
from captioner_jax.pretrained.layouts import Places, placed

_BLOCK = r"transformer\.h\.(\d+)"
GPT2: Places = [
    (r"transformer\.wte\.weight", "embed.embedding"),
    (r"transformer\.wpe\.weight", "positions"),
    (r"lm_head\.weight", "output"),
    (r"transformer\.ln_f\.(\w+)", r"norm.\1"),
    (rf"{_BLOCK}\.ln_1\.(\w+)", r"blocks.\1.norm_1.\2"),
    (rf"{_BLOCK}\.ln_cross_attn\.(\w+)", r"blocks.\1.norm_2.\2"),
    (rf"{_BLOCK}\.ln_2\.(\w+)", r"blocks.\1.norm_3.\2"),
    (rf"{_BLOCK}\.attn\.c_attn\.(\w+)", r"blocks.\1.self_attention.qkv.\2"),
    (rf"{_BLOCK}\.attn\.c_proj\.(\w+)", r"blocks.\1.self_attention.o.\2"),
    (rf"{_BLOCK}\.crossattention\.q_attn\.(\w+)", r"blocks.\1.cross_attention.q.\2"),
    (rf"{_BLOCK}\.crossattention\.c_attn\.(\w+)", r"blocks.\1.cross_attention.kv.\2"),
    (rf"{_BLOCK}\.crossattention\.c_proj\.(\w+)", r"blocks.\1.cross_attention.o.\2"),
    (rf"{_BLOCK}\.mlp\.c_fc\.(\w+)", r"blocks.\1.mlp.linear_1.\2"),
    (rf"{_BLOCK}\.mlp\.c_proj\.(\w+)", r"blocks.\1.mlp.linear_2.\2"),
]

_LAYER = r"bert\.encoder\.layer\.(\d+)"
BERT: Places = [
    (r"bert\.embeddings\.word_embeddings\.weight", "embed.embedding"),
    (r"bert\.embeddings\.position_embeddings\.weight", "positions"),
    (r"bert\.embeddings\.LayerNorm\.(\w+)", r"norm_words.\1"),
    (r"cls\.predictions\.transform\.dense\.(\w+)", r"transform.\1"),
    (r"cls\.predictions\.transform\.LayerNorm\.(\w+)", r"norm.\1"),
    (r"cls\.predictions\.bias", "bias"),
    (r"cls\.predictions\.decoder\.weight", "output"),
    (rf"{_LAYER}\.attention\.self\.([qkv])(?:uery|ey|alue)\.(\w+)", r"blocks.\1.self_attention.\2.\3"),
    (rf"{_LAYER}\.attention\.output\.dense\.(\w+)", r"blocks.\1.self_attention.o.\2"),
    (rf"{_LAYER}\.attention\.output\.LayerNorm\.(\w+)", r"blocks.\1.norm_1.\2"),
    (rf"{_LAYER}\.crossattention\.self\.([qkv])(?:uery|ey|alue)\.(\w+)", r"blocks.\1.cross_attention.\2.\3"),
    (rf"{_LAYER}\.crossattention\.output\.dense\.(\w+)", r"blocks.\1.cross_attention.o.\2"),
    (rf"{_LAYER}\.crossattention\.output\.LayerNorm\.(\w+)", r"blocks.\1.norm_2.\2"),
    (rf"{_LAYER}\.intermediate\.dense\.(\w+)", r"blocks.\1.mlp.linear_1.\2"),
    (rf"{_LAYER}\.output\.dense\.(\w+)", r"blocks.\1.mlp.linear_2.\2"),
    (rf"{_LAYER}\.output\.LayerNorm\.(\w+)", r"blocks.\1.norm_3.\2"),
]

# Masks, and numbers of positions, that older files hold.
_BUFFERS = re.compile(r".*\.(attn|crossattention)\.(bias|masked_bias)|.*\.position_ids")
# GPT-2's matrices, which are kept as [in out].
_TURNED = re.compile(r".*\.(c_attn|q_attn|c_proj|c_fc)\.weight")


class Family(NamedTuple):
    """How one kind of captioners is kept: what names of its encoder and of its decoder begin with, and of the latter
    the parameters by their names, and second names, each for a first one that may mean the same."""

    encoder: str
    decoder: str
    places: Places
    again: Mapping[str, str]


VIT_GPT2 = Family("encoder.", "decoder.", GPT2, {"lm_head.weight": "transformer.wte.weight"})
BLIP = Family(
    "vision_model.",
    "text_decoder.",
    BERT,
    {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
)
# What there is one number, or one row, of for each word.
OF_WORDS = ("decoder.embed.embedding", "decoder.output", "decoder.bias")
# The logit of a word that is not there: its share of the probabilities is no more than rounding.
ABSENT = -30.0


def to_ours(tensors: Mapping[str, np.ndarray], family: Family, model: ModelConfig) -> dict[str, np.ndarray]:
    """Tensors of a captioner by our dotted names, in our layouts; words stand as they did there.

    An output matrix is there only if it is not the words' embedding, a bias of words, of zeros, also where they have
    none. What is of no known name comes back as it is.
    """
    ours: dict[str, np.ndarray] = {}
    encoder: dict[str, np.ndarray] = {}
    tensors = _by_first_names(tensors, family)
    for name, tensor in tensors.items():
        if _BUFFERS.fullmatch(name):
            continue
        if name.startswith(family.encoder):
            encoder[name.removeprefix(family.encoder)] = tensor
        elif name.startswith(family.decoder):
            ours |= _of_decoder(name, tensor, family, model.heads)
        else:
            ours[name] = tensor
    words = ours.get("decoder.embed.embedding")
    if words is not None and "bias" not in dict(family.places).values():
        ours["decoder.bias"] = np.zeros(words.shape[:1], np.float32)
    return ours | {f"encoder.{name}": x for name, x in vit_names.to_ours(encoder, model.encoder.kind).items()}


def _by_first_names(tensors: Mapping[str, np.ndarray], family: Family) -> dict[str, np.ndarray]:
    """What is there twice is there once; what is there by its second name alone is there by its first."""
    named = dict(tensors)
    for again, first in ((family.decoder + again, family.decoder + first) for again, first in family.again.items()):
        if again in named and (first not in named or np.array_equal(named[first], named[again])):
            named[first] = named.pop(again)
    return named


def _of_decoder(name: str, tensor: np.ndarray, family: Family, heads: int) -> dict[str, np.ndarray]:
    inside = name.removeprefix(family.decoder)
    turned = tensor.transpose() if _TURNED.fullmatch(name) else tensor
    found = placed(inside, turned, family.places, heads)
    return {name: tensor} if inside in found else {f"decoder.{ours}": x for ours, x in found.items()}


def in_order(parameters: Mapping[str, np.ndarray], rows: Sequence[int], never: Sequence[int]) -> dict[str, np.ndarray]:
    """The same with the words' rows in another order, in which -1 is a word that is not there, and so the mean of all.

    Such words, and those of our numbers in `never`, have a bias that takes them out of the softmax: they may share a
    row with another word.
    """
    absent = np.flatnonzero(np.asarray(rows) < 0)
    ordered = dict(parameters)
    for name in OF_WORDS:
        if name in parameters:
            whole = parameters[name].astype(np.float32)  # in 16 bits a sum of so many would not be one
            ordered[name] = whole[list(rows)]
            ordered[name][absent] = whole.mean(0)
    ordered["decoder.bias"][[*absent, *never]] = ABSENT
    return ordered
