"""Whole captioners that others published, as `transformers` keeps them, with all that captioning needs.

config.json                 sizes, and the ids of tokens that are no words
preprocessor_config.json    what pixels are normalised by
model.safetensors           parameters; or pytorch_model.bin
tokenizer.json              the vocabulary; or vocab.json and merges.txt; or vocab.txt
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import numpy as np
import pydantic
from annotated_types import Ge
from flax import nnx

from captioner_jax.config import EncoderConfig, EncoderKind, ModelConfig, Positive
from captioner_jax.data.images import Preprocessing
from captioner_jax.errors import UserError
from captioner_jax.model.captioner import Captioner
from captioner_jax.model.names import flat
from captioner_jax.model.vit import SIZES, Size
from captioner_jax.pretrained import captioner_names
from captioner_jax.pretrained.captioner_names import BLIP, VIT_GPT2, Family
from captioner_jax.pretrained.files import CARDS, contents, locate, preprocessor, read_json
from captioner_jax.pretrained.load import mistakes
from captioner_jax.text.special import SPECIAL_TOKENS
from captioner_jax.text.tokenizer import Tokenizer, of_byte_pairs, of_word_pieces

CONFIG, TOKENIZER, PAIRS, MERGES, PIECES = "config.json", "tokenizer.json", "vocab.json", "merges.txt", "vocab.txt"
Id = Annotated[int, Ge(0)]


class Published(NamedTuple):
    """A captioner as ours, and where it came from."""

    model: ModelConfig
    preprocessing: Preprocessing
    tokenizer: Tokenizer
    parameters: dict[Any, Any]
    origin: str


class _ViT(pydantic.BaseModel):
    hidden_size: Positive
    num_hidden_layers: Positive
    num_attention_heads: Positive
    patch_size: Positive
    image_size: Positive
    hidden_act: Literal["gelu"]
    qkv_bias: Literal[True] = True


class _GPT2(pydantic.BaseModel):
    model_type: Literal["gpt2"]
    n_embd: Positive
    n_head: Positive
    n_layer: Positive
    n_inner: Positive | None = None
    activation_function: Literal["gelu_new"] = "gelu_new"
    scale_attn_by_inverse_layer_idx: Literal[False] = False
    bos_token_id: Id
    eos_token_id: Id


class _ViTAndGPT2(pydantic.BaseModel):
    """Of `VisionEncoderDecoderModel`; where it tells no ids, those of the decoder hold."""

    encoder: _ViT
    decoder: _GPT2
    decoder_start_token_id: Id | None = None
    eos_token_id: Id | None = None


class _Bert(pydantic.BaseModel):
    hidden_size: Positive
    intermediate_size: Positive
    num_hidden_layers: Positive
    num_attention_heads: Positive
    hidden_act: Literal["gelu"]
    bos_token_id: Id
    sep_token_id: Id


class _Blip(pydantic.BaseModel):
    text_config: _Bert
    vision_config: _ViT


class _Told(NamedTuple):
    """What a config.json tells: how the file is to be read, what the model is, and the ids that begin and end."""

    family: Family
    model: ModelConfig
    start: int
    end: int


class _Vocabulary(NamedTuple):
    """Tokens by their ids, and the pairs that are merged, in their order; None: pieces of words."""

    tokens: dict[int, str]
    merges: list[tuple[str, str]] | None


def read_captioner(where: str) -> Published:
    """The captioner in a folder, or at hf://OWNER/NAME[@REVISION].

    Raises UserError where there is none, where it is of no kind that is known here, and where it is damaged.
    """
    file, folder, origin = locate(where, [*CARDS, TOKENIZER, PAIRS, MERGES, PIECES])
    told, vocabulary = _told(folder / CONFIG), _vocabulary(folder)
    tensors, _ = contents(file)
    ours = captioner_names.to_ours(tensors, told.family, told.model)
    count = len(ours.get("decoder.embed.embedding", ()))
    rows = _rows(told, vocabulary, count)
    tokenizer = _tokenizer(vocabulary, rows[len(SPECIAL_TOKENS) :])
    ours = captioner_names.in_order(ours, rows)
    return Published(told.model, _preprocessing(folder, told.model), tokenizer, _tree(ours, told, rows, origin), origin)


def _told(file: Path) -> _Told:
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


def _of_vit_and_gpt2(told: _ViTAndGPT2) -> _Told:
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
    return _Told(VIT_GPT2, model, start, gpt2.eos_token_id if told.eos_token_id is None else told.eos_token_id)


def _of_blip(told: _Blip) -> _Told:
    bert = told.text_config
    model = ModelConfig(
        width=bert.hidden_size,
        heads=bert.num_attention_heads,
        feed_forward=bert.intermediate_size,
        layers=bert.num_hidden_layers,
        decoder="bert",
        encoder=EncoderConfig(_kind("blip", told.vision_config)),
    )
    return _Told(BLIP, model, bert.bos_token_id, bert.sep_token_id)


def _kind(family: str, told: _ViT) -> EncoderKind:
    """Raises UserError for an encoder of sizes that none of ours has."""
    size = Size(told.patch_size, told.hidden_size, told.num_attention_heads, told.num_hidden_layers, told.image_size)
    kind = next((kind for kind, of in SIZES.items() if kind.startswith(family) and of == size), None)
    if kind is None:
        raise UserError(f"an encoder with {size._asdict()} is not known here: of this kind there are {_sizes(family)}")
    return pydantic.TypeAdapter(EncoderKind).validate_python(kind)


def _sizes(family: str) -> str:
    return " and ".join(str(size._asdict()) for kind, size in SIZES.items() if kind.startswith(family))


def _preprocessing(folder: Path, model: ModelConfig) -> Preprocessing:
    """Raises UserError where nothing tells what pixels are normalised by."""
    told = preprocessor(folder)
    if told is None:
        raise UserError(f"{folder} has no {CARDS[0]}, which tells what pixels are normalised by")
    size = SIZES[model.encoder.kind].side
    try:
        card = json.dumps({"image_size": size, "mean": told["image_mean"], "deviation": told["image_std"]})
        return pydantic.TypeAdapter(Preprocessing).validate_json(card)
    except pydantic.ValidationError as error:
        raise UserError(f"{folder / CARDS[0]}: image_mean and image_std are to be three numbers each") from error


def _vocabulary(folder: Path) -> _Vocabulary:
    """Raises UserError where there is none, or one of another kind."""
    try:
        if (folder / TOKENIZER).is_file():
            return _from_tokenizer(read_json(folder / TOKENIZER))
        if (folder / PAIRS).is_file():
            lines = (folder / MERGES).read_text(encoding="utf-8").splitlines()
            merges = [_pair(line) for line in lines if line and not line.startswith("#version")]
            return _Vocabulary(_by_id(read_json(folder / PAIRS)), merges)
        if (folder / PIECES).is_file():
            lines = (folder / PIECES).read_text(encoding="utf-8").splitlines()
            return _Vocabulary(dict(enumerate(lines)), None)
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{folder}: its vocabulary cannot be read: {error!r}") from error
    raise UserError(f"{folder} has no vocabulary: wanted is {TOKENIZER}, {PAIRS} with {MERGES}, or {PIECES}")


def _from_tokenizer(content: dict[str, Any]) -> _Vocabulary:
    """Raises ValueError for a kind that is not known, and KeyError for what is missing."""
    model = content["model"]
    added = {token["content"]: token["id"] for token in content.get("added_tokens", [])}
    tokens = _by_id(model["vocab"] | added)
    match model["type"]:
        case "BPE":
            return _Vocabulary(tokens, [_pair(merge) for merge in model["merges"]])
        case "WordPiece":
            return _Vocabulary(tokens, None)
        case other:
            raise ValueError(f"a tokenizer of the kind {other}")


def _pair(merge: str | list[str]) -> tuple[str, str]:
    first, second = merge.split(" ") if isinstance(merge, str) else merge
    return first, second


def _by_id(ids: Mapping[str, int]) -> dict[int, str]:
    return {number: token for token, number in ids.items()}


def _rows(told: _Told, vocabulary: _Vocabulary, count: int) -> list[int]:
    """Of each of our tokens, where it stood: PAD, which is never looked at, and UNKNOWN nowhere (-1), unless the
    vocabulary has one of its own; START, END; then all others as they stood.

    Raises UserError where there are none for START and END.
    """
    if not max(told.start, told.end) < count:
        raise UserError(f"words are to begin with {told.start} and end with {told.end}, but there are {count} of them")
    unknown = next((number for number, token in vocabulary.tokens.items() if token == "[UNK]"), -1)
    special = [-1, told.start, told.end, unknown]
    return [*special, *(number for number in range(count) if number not in special)]


def _tokenizer(vocabulary: _Vocabulary, rows: list[int]) -> Tokenizer:
    """Of tokens in this order, after the special ones. What has no name, or one of these, is called by its number.

    Raises UserError where pairs are merged to what is no token.
    """
    tokens = {number: token for number, token in vocabulary.tokens.items() if token not in SPECIAL_TOKENS}
    names = [tokens.get(row, f"<{row}>") for row in rows]
    try:
        return of_word_pieces(names) if vocabulary.merges is None else of_byte_pairs(names, vocabulary.merges)
    except ValueError as error:
        raise UserError(f"its vocabulary is damaged: {error}") from error


def _tree(ours: Mapping[str, np.ndarray], told: _Told, rows: list[int], origin: str) -> dict[Any, Any]:
    """Raises UserError where there is more, or less, than a captioner of this kind has."""
    captioner = nnx.eval_shape(lambda: Captioner(told.model, len(rows), rngs=nnx.Rngs(0)))
    shapes = nnx.to_pure_dict(nnx.state(captioner))
    wanted = {name: leaf.shape for name, leaf in flat(shapes).items()}
    if found := mistakes(ours, wanted, wanted, [name for name in wanted if name not in ours]):
        raise UserError("\n".join([f"{origin} does not hold the weights that its {CONFIG} tells of:", *found]))
    arrays = [np.asarray(ours[name], np.float32, order="C") for name in wanted]
    return jax.tree.unflatten(jax.tree.structure(shapes), arrays)
