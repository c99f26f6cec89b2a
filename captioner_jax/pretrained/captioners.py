"""Whole captioners that others published, as `transformers` keeps them, with all that captioning needs.

config.json                 sizes, and the ids of tokens that are no words
preprocessor_config.json    what pixels are normalised by
model.safetensors           parameters; or pytorch_model.bin
tokenizer.json              the vocabulary; or vocab.json and merges.txt; or vocab.txt
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import numpy as np
import pydantic
import tokenizers
from annotated_types import Ge, Le
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
from captioner_jax.text.special import SPECIAL_TOKENS, START
from captioner_jax.text.tokenizer import Tokenizer, of_byte_pairs, of_word_pieces

CONFIG, TOKENIZER, PAIRS, MERGES, PIECES = "config.json", "tokenizer.json", "vocab.json", "merges.txt", "vocab.txt"
# Tokens of BERT's that stand for no text, and that transformers leaves out of captions.
NO_TEXT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]")
Id = Annotated[int, Ge(0)]
# What norms add to variances is 1e-12 to 1e-5, which no caption tells apart.
Tiny = Annotated[float, Ge(0), Le(2e-5)]


class Published(NamedTuple):
    """A captioner as ours, and where it came from."""

    model: ModelConfig
    preprocessing: Preprocessing
    tokenizer: Tokenizer
    parameters: dict[Any, Any]
    origin: str


# As in transformers, what a config.json leaves out is the default.
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


class _Told(NamedTuple):
    """What a config.json tells: how to read the weights, what the model is, and the ids of tokens that are no words."""

    family: Family
    model: ModelConfig
    start: int
    end: int
    pad: int | None


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
    preprocessing = _preprocessing(folder, told.model)
    tensors, _ = contents(file)
    ours = captioner_names.to_ours(tensors, told.family, told.model)
    model = dataclasses.replace(told.model, tied="decoder.output" not in ours)
    structure = _structure(ours, model, origin)
    rows = _rows(told, vocabulary, len(ours["decoder.bias"]))
    tokenizer = _tokenizer(vocabulary, rows)
    ours = captioner_names.in_order(ours, rows, never=[START] if told.start == told.end else [])
    return Published(model, preprocessing, tokenizer, _tree(ours, structure), origin)


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
    end = gpt2.eos_token_id if told.eos_token_id is None else told.eos_token_id
    return _Told(VIT_GPT2, model, start, end, pad=None)


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
    return _Told(BLIP, model, bert.bos_token_id, bert.sep_token_id, bert.pad_token_id)


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
        raise UserError(f"{folder}: neither {CARDS[0]} nor {CARDS[1]} tells image_mean and image_std of pixels")
    size = SIZES[model.encoder.kind].side
    try:
        card = json.dumps({"image_size": size, "mean": told["image_mean"], "deviation": told["image_std"]})
        return pydantic.TypeAdapter(Preprocessing).validate_json(card)
    except pydantic.ValidationError as error:
        raise UserError(
            f"{folder}: image_mean and image_std are to be three numbers each, the latter above 0"
        ) from error


def _vocabulary(folder: Path) -> _Vocabulary:
    """Raises UserError where there is none, or one of another kind."""
    try:
        if (folder / TOKENIZER).is_file():
            return _from_tokenizer((folder / TOKENIZER).read_text(encoding="utf-8"))
        if (folder / PAIRS).is_file():
            merges = [_pair(line) for line in _lines(folder / MERGES) if not line.startswith("#version")]
            return _Vocabulary(_by_id(read_json(folder / PAIRS)), merges)
        if (folder / PIECES).is_file():
            return _Vocabulary(dict(enumerate(_lines(folder / PIECES))), None)
    except Exception as error:  # the library raises bare Exception
        raise UserError(f"{folder}: its vocabulary cannot be read: {error}") from error
    raise UserError(f"{folder} has no vocabulary: wanted is {TOKENIZER}, {PAIRS} with {MERGES}, or {PIECES}")


def _lines(file: Path) -> list[str]:
    """Up to the last that is not empty. No other sign ends a line, since it may be a token."""
    return file.read_text(encoding="utf-8").rstrip("\n").split("\n")


def _from_tokenizer(text: str) -> _Vocabulary:
    """Raises ValueError for a kind that is not known, and Exception, as the library does, for what is damaged."""
    backend = tokenizers.Tokenizer.from_str(text)
    tokens = _by_id(backend.get_vocab(with_added_tokens=True))
    match backend.model:
        case tokenizers.models.BPE():
            merges = json.loads(backend.to_str())["model"]["merges"]  # which older files write otherwise
            return _Vocabulary(tokens, [_pair(merge) for merge in merges])
        case tokenizers.models.WordPiece():
            return _Vocabulary(tokens, None)
        case other:
            raise ValueError(f"a tokenizer of the kind {type(other).__name__}, and not of byte pairs or word pieces")


def _pair(merge: str | list[str]) -> tuple[str, str]:
    first, second = merge.split(" ") if isinstance(merge, str) else merge
    return first, second


def _by_id(ids: Mapping[str, int]) -> dict[int, str]:
    return {number: token for token, number in ids.items()}


def _structure(ours: Mapping[str, np.ndarray], model: ModelConfig, origin: str) -> dict[Any, Any]:
    """The variables of such a captioner, as shapes, with words as they stood.

    Raises UserError where there is more, or less, than it has.
    """
    embedding = ours.get("decoder.embed.embedding", np.zeros(0))
    try:
        captioner = nnx.eval_shape(lambda: Captioner(model, len(np.atleast_1d(embedding)), rngs=nnx.Rngs(0)))
    except ValueError as error:
        raise UserError(f"{origin}: what its {CONFIG} tells does not go together: {error}") from error
    shapes = nnx.to_pure_dict(nnx.state(captioner))
    wanted = {name: leaf.shape for name, leaf in flat(shapes).items()}
    if found := mistakes(ours, wanted, wanted, [name for name in wanted if name not in ours]):
        raise UserError("\n".join([f"{origin} does not hold the weights that its {CONFIG} tells of:", *found]))
    return shapes


def _rows(told: _Told, vocabulary: _Vocabulary, count: int) -> list[int]:
    """Of each of our tokens, where it stood, -1 for nowhere: PAD, START, END, UNKNOWN, then all that stand for text.

    Raises UserError where there are none for START and END.
    """
    if not max(told.start, told.end) < count:
        raise UserError(f"words are to begin with {told.start} and end with {told.end}, but there are {count} of them")
    tokens = vocabulary.tokens
    unknown = next((number for number, token in tokens.items() if token == "[UNK]" and number < count), -1)
    pad = -1 if told.pad is None or told.pad >= count else told.pad
    special = [pad, told.start, told.end, unknown]
    is_text = lambda number: number in tokens and tokens[number] not in (*NO_TEXT, *SPECIAL_TOKENS)  # noqa: E731
    return [*special, *(number for number in range(count) if number not in special and is_text(number))]


def _tokenizer(vocabulary: _Vocabulary, rows: list[int]) -> Tokenizer:
    """Of tokens in this order. Raises UserError where pairs are merged to no token, and where one is there twice."""
    names = [vocabulary.tokens[row] for row in rows[len(SPECIAL_TOKENS) :]]
    try:
        found = of_word_pieces(names) if vocabulary.merges is None else of_byte_pairs(names, vocabulary.merges)
    except ValueError as error:
        raise UserError(f"its vocabulary is damaged: {error}") from error
    if len(found) != len(rows):
        raise UserError(f"its vocabulary is damaged: {len(rows) - len(found):,} of its tokens are there twice")
    return found


def _tree(ours: Mapping[str, np.ndarray], structure: dict[Any, Any]) -> dict[Any, Any]:
    arrays = [np.asarray(ours[name], np.float32, order="C") for name in flat(structure)]
    return jax.tree.unflatten(jax.tree.structure(structure), arrays)
