"""The vocabulary of a published captioner: tokenizer.json; or vocab.json and merges.txt; or vocab.txt."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import tokenizers

from captioner_jax.errors import UserError
from captioner_jax.pretrained.files import read_json
from captioner_jax.text.tokenizer import BYTES

TOKENIZER, PAIRS, MERGES, PIECES = "tokenizer.json", "vocab.json", "merges.txt", "vocab.txt"
FILES = (TOKENIZER, PAIRS, MERGES, PIECES)


class Vocabulary(NamedTuple):
    """Tokens by their ids, and the pairs that are merged, in their order; None: pieces of words."""

    tokens: dict[int, str]
    merges: list[tuple[str, str]] | None


def read_vocabulary(folder: Path) -> Vocabulary:
    """Raises UserError where there is none, or one of another kind."""
    try:
        if (folder / TOKENIZER).is_file():
            return _from_tokenizer((folder / TOKENIZER).read_text(encoding="utf-8"))
        if (folder / PAIRS).is_file():
            merges = [_pair(line) for line in _lines(folder / MERGES) if not line.startswith("#version")]
            return Vocabulary(_by_id(read_json(folder / PAIRS)), merges)
        if (folder / PIECES).is_file():
            return Vocabulary(dict(enumerate(_lines(folder / PIECES))), None)
    except Exception as error:  # the library raises bare Exception
        raise UserError(f"{folder}: its vocabulary cannot be read: {error}") from error
    raise UserError(f"{folder} has no vocabulary: wanted is {TOKENIZER}, {PAIRS} with {MERGES}, or {PIECES}")


def _lines(file: Path) -> list[str]:
    """Up to the last that is not empty. No other sign ends a line, since it may be a token."""
    return file.read_text(encoding="utf-8").rstrip("\n").split("\n")


def _from_tokenizer(text: str) -> Vocabulary:
    """Raises ValueError for a kind that is not known, and Exception, as the library does, for what is damaged."""
    backend = tokenizers.Tokenizer.from_str(text)
    tokens = _by_id(backend.get_vocab(with_added_tokens=True))
    match backend.model:
        case tokenizers.models.BPE():
            if not BYTES.keys() >= set().union(*backend.get_vocab(with_added_tokens=False)):
                raise ValueError("its pairs are not of bytes")
            merges = json.loads(backend.to_str())["model"]["merges"]  # which older files write otherwise
            return Vocabulary(tokens, [_pair(merge) for merge in merges])
        case tokenizers.models.WordPiece():
            if backend.normalizer is None or backend.normalizer.normalize_str("A") != "a":
                raise ValueError("its pieces of words have capitals, and captions here are written without")
            return Vocabulary(tokens, None)
        case other:
            raise ValueError(f"a tokenizer of the kind {type(other).__name__}, and not of byte pairs or word pieces")


def _pair(merge: str | list[str]) -> tuple[str, str]:
    first, second = merge.split(" ") if isinstance(merge, str) else merge
    return first, second


def _by_id(ids: Mapping[str, int]) -> dict[int, str]:
    return {number: token for token, number in ids.items()}
