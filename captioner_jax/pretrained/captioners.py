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
from typing import Any, NamedTuple

import jax
import numpy as np
import pydantic
from flax import nnx

from captioner_jax.config import ModelConfig
from captioner_jax.data.images import Preprocessing
from captioner_jax.errors import UserError
from captioner_jax.model.captioner import Captioner
from captioner_jax.model.names import flat
from captioner_jax.model.vit import SIZES
from captioner_jax.pretrained import captioner_names
from captioner_jax.pretrained.captioner_config import Told, read_config
from captioner_jax.pretrained.files import CARDS, contents, locate, preprocessor
from captioner_jax.pretrained.load import mistakes
from captioner_jax.pretrained.vocabulary import FILES, Vocabulary, read_vocabulary
from captioner_jax.text.special import PAD, SPECIAL_TOKENS, START, UNKNOWN
from captioner_jax.text.tokenizer import Tokenizer, of_byte_pairs, of_word_pieces

CONFIG = "config.json"
# Tokens of BERT's that stand for no text, and that transformers leaves out of captions.
NO_TEXT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]")


class Published(NamedTuple):
    """A captioner as ours, and where it came from."""

    model: ModelConfig
    preprocessing: Preprocessing
    tokenizer: Tokenizer
    parameters: dict[Any, Any]
    origin: str


def read_captioner(where: str) -> Published:
    """The captioner in a folder, or at hf://OWNER/NAME[@REVISION].

    Raises UserError where there is none, where it is of no kind that is known here, and where it is damaged.
    """
    file, folder, origin = locate(where, [*CARDS, *FILES])
    told, vocabulary = read_config(folder / CONFIG), read_vocabulary(folder)
    preprocessing = _preprocessing(folder, told.model)
    tensors, _ = contents(file)
    ours = captioner_names.to_ours(tensors, told.family, told.model)
    model = dataclasses.replace(told.model, tied="decoder.output" not in ours)
    structure = _structure(ours, model, origin)
    rows = _rows(told, vocabulary, len(ours["decoder.bias"]))
    tokenizer = _tokenizer(vocabulary, rows)
    never = [number for number in (PAD, START, UNKNOWN) if rows[number] == told.end]
    ours = captioner_names.in_order(ours, rows, never)
    return Published(model, preprocessing, tokenizer, _tree(ours, structure), origin)


def _preprocessing(folder: Path, model: ModelConfig) -> Preprocessing:
    """Of the whole picture, as the processors of both families take it unless told otherwise.

    Raises UserError where nothing tells what pixels are normalised by.
    """
    told = preprocessor(folder)
    if told is None:
        raise UserError(f"{folder}: neither {CARDS[0]} nor {CARDS[1]} tells image_mean and image_std of pixels")
    size = SIZES[model.encoder.kind].side
    try:
        card = {"image_size": size, "mean": told["image_mean"], "deviation": told["image_std"]}
        card["framing"] = "middle" if told["do_center_crop"] else "whole"
        return pydantic.TypeAdapter(Preprocessing).validate_json(json.dumps(card))
    except pydantic.ValidationError as error:
        raise UserError(
            f"{folder}: image_mean and image_std are to be three numbers each, the latter above 0"
        ) from error


def _structure(ours: Mapping[str, np.ndarray], model: ModelConfig, origin: str) -> dict[Any, Any]:
    """The variables of such a captioner, as shapes, with words as they stood.

    Raises UserError where there is more, or less, than it has.
    """
    words = np.atleast_1d(ours.get("decoder.embed.embedding", np.zeros(0)))
    try:
        captioner = nnx.eval_shape(lambda: Captioner(model, len(words), rngs=nnx.Rngs(0)))
    except ValueError as error:
        raise UserError(f"{origin}: what its {CONFIG} tells does not go together: {error}") from error
    shapes = nnx.to_pure_dict(nnx.state(captioner))
    wanted = {name: leaf.shape for name, leaf in flat(shapes).items()}
    if found := mistakes(ours, wanted, wanted, [name for name in wanted if name not in ours]):
        raise UserError("\n".join([f"{origin} does not hold the weights that its {CONFIG} tells of:", *found]))
    return shapes


def _rows(told: Told, vocabulary: Vocabulary, count: int) -> list[int]:
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


def _tokenizer(vocabulary: Vocabulary, rows: list[int]) -> Tokenizer:
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
