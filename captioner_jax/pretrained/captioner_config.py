"""What the config.json of a published captioner tells, as `transformers` writes it; what it leaves out is as there."""

from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import pydantic
from annotated_types import Ge, Le

from captioner_jax.config import EncoderConfig, EncoderKind, ModelConfig, Positive
from captioner_jax.errors import UserError
from captioner_jax.model.vit import SIZES, Size
from captioner_jax.pretrained.captioner_names import BLIP, VIT_GPT2, Family
from captioner_jax.pretrained.files import read_json

Id = Annotated[int, Ge(0)]
# What norms add to variances is 1e-12 to 1e-5, which no caption tells apart.
Tiny = Annotated[float, Ge(0), Le(2e-5)]


class Told(NamedTuple):
    """What a config.json tells: how to read the weights, what the model is, and the ids of tokens that are no words."""

    family: Family
    model: ModelConfig
    start: int
    end: int
    pad: int | None


class _ViT(pydantic.BaseModel):
    model_type: Literal["vit", "blip_vision_model"] = "vit"
    hidden_size: Positive = 768
    num_hidden_layers: Positive = 12
    num_attention_heads: Positive = 12
    patch_size: Positive = 16
    image_size: Positive = 224
    hidden_act: Literal["gelu"] = "gelu"
    layer_norm_eps: Tiny = 1e-12
    qkv_bias: Literal[True] = True


class _BlipViT(_ViT):
    image_size: Positive = 384


class _GPT2(pydantic.BaseModel):
    model_type: Literal["gpt2"]
    n_embd: Positive = 768
    n_head: Positive = 12
    n_layer: Positive = 12
    n_inner: Positive | None = None
    activation_function: Literal["gelu_new"] = "gelu_new"
    layer_norm_epsilon: Tiny = 1e-5
    scale_attn_weights: Literal[True] = True
    scale_attn_by_inverse_layer_idx: Literal[False] = False
    bos_token_id: Id = 50256
    eos_token_id: Id = 50256


class _ViTAndGPT2(pydantic.BaseModel):
    """Of `VisionEncoderDecoderModel`; where it tells no ids, those of the decoder hold."""

    encoder: _ViT
    decoder: _GPT2
    decoder_start_token_id: Id | None = None
    eos_token_id: Id | None = None


class _Bert(pydantic.BaseModel):
    hidden_size: Positive = 768
    intermediate_size: Positive = 3072
    num_hidden_layers: Positive = 12
    num_attention_heads: Positive = 8
    hidden_act: Literal["gelu"] = "gelu"
    layer_norm_eps: Tiny = 1e-12
    bos_token_id: Id = 30522
    sep_token_id: Id = 102
    pad_token_id: Id = 0


class _Blip(pydantic.BaseModel):
    text_config: _Bert
    vision_config: _BlipViT


def read_config(file: Path) -> Told:
    """Raises UserError for what cannot be ours, each time for its reason."""
    if not file.is_file():
        raise UserError(f"{file.parent} is no captioner that transformers keeps: it has no {file.name}")
    content = read_json(file)
    try:
        match content.get("model_type"):
            case "vision-encoder-decoder":
                return _of_vit_and_gpt2(_ViTAndGPT2.model_validate(content))
            case "blip":
                return _of_blip(_Blip.model_validate(content))
            case other:
                known = "a Vision Transformer with GPT-2 (vision-encoder-decoder), and blip"
                raise UserError(f"{file}: captioners of model_type {other!r} are not known here, but {known}")
    except pydantic.ValidationError as error:
        lines = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        raise UserError("\n".join([f"{file} is not of a captioner that is known here:", *lines])) from error


def _of_vit_and_gpt2(told: _ViTAndGPT2) -> Told:
    gpt2 = told.decoder
    model = ModelConfig(
        width=gpt2.n_embd,
        heads=gpt2.n_head,
        feed_forward=gpt2.n_inner or 4 * gpt2.n_embd,
        layers=gpt2.n_layer,
        decoder="gpt2",
        encoder=EncoderConfig(_kind("vit", told.encoder)),
    )
    start = gpt2.bos_token_id if told.decoder_start_token_id is None else told.decoder_start_token_id
    end = gpt2.eos_token_id if told.eos_token_id is None else told.eos_token_id
    return Told(VIT_GPT2, model, start, end, pad=None)


def _of_blip(told: _Blip) -> Told:
    bert = told.text_config
    model = ModelConfig(
        width=bert.hidden_size,
        heads=bert.num_attention_heads,
        feed_forward=bert.intermediate_size,
        layers=bert.num_hidden_layers,
        decoder="bert",
        encoder=EncoderConfig(_kind("blip", told.vision_config)),
    )
    return Told(BLIP, model, bert.bos_token_id, bert.sep_token_id, bert.pad_token_id)


def _kind(family: str, told: _ViT) -> EncoderKind:
    """Raises UserError for an encoder of sizes that none of ours has."""
    size = Size(told.patch_size, told.hidden_size, told.num_attention_heads, told.num_hidden_layers, told.image_size)
    kind = next((kind for kind, of in SIZES.items() if kind.startswith(family) and of == size), None)
    if kind is None:
        raise UserError(f"an encoder with {size._asdict()} is not known here: of this kind there are {_sizes(family)}")
    return pydantic.TypeAdapter(EncoderKind).validate_python(kind)


def _sizes(family: str) -> str:
    return " and ".join(str(size._asdict()) for kind, size in SIZES.items() if kind.startswith(family))
