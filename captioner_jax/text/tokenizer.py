"""Captions to ids and back, kept as a Hugging Face `tokenizers` file: words, or pairs of bytes for any language.

Published captioners may write in pieces of words besides.
"""

import collections
import re
from collections.abc import Iterable, Sequence

import numpy as np
import tokenizers
from jaxtyping import Int
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from captioner_jax.config import DataConfig
from captioner_jax.text import ptb
from captioner_jax.text.special import END, PAD, SPECIAL_TOKENS, START, UNKNOWN

# Tokens of the Penn Treebank that belong to the word before.
CLITICS = ("'s", "n't", "'re", "'ve", "'ll", "'d", "'m")
# What pieces that go on with a word begin with.
GOES_ON = "##"
# The Penn Treebank's names of brackets.
BRACKETS = {"-lrb-": "(", "-rrb-": ")", "-lsb-": "[", "-rsb-": "]", "-lcb-": "{", "-rcb-": "}"}

# Letters that stand for bytes in byte pairs: most for themselves, those that print nothing for others, from 256 on.
_PRINTED = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = [byte for byte in range(0x100) if byte not in _PRINTED]
BYTES = {chr(byte): byte for byte in _PRINTED} | {chr(0x100 + i): byte for i, byte in enumerate(_OTHERS)}


class Tokenizer:
    """A vocabulary, and the way from captions to ids and back."""

    def __init__(self, backend: tokenizers.Tokenizer):
        """Raises ValueError where the special tokens are not the first four of the vocabulary."""
        if [backend.id_to_token(i) for i in range(4)] != list(SPECIAL_TOKENS):
            raise ValueError(f"this tokenizer's first tokens are not {' '.join(SPECIAL_TOKENS)}")
        backend.encode_special_tokens = True  # what looks like one in a caption is text
        self.backend = backend
        self.by_words = isinstance(backend.model, models.WordLevel)
        self.by_bytes = isinstance(backend.model, models.BPE)

    @staticmethod
    def train(captions: Iterable[Sequence[str]], config: DataConfig) -> "Tokenizer":
        """Of the kind that is configured, from images' captions."""
        flat = (caption for of_image in captions for caption in of_image)
        return (
            train_words(flat, config.min_count) if config.tokenizer == "words" else train_bpe(flat, config.vocabulary)
        )

    @staticmethod
    def from_json(text: str) -> "Tokenizer":
        """Raises ValueError where `text` is no tokenizer of this project's."""
        try:
            return Tokenizer(tokenizers.Tokenizer.from_str(text))
        except Exception as error:  # the library raises bare Exception
            raise ValueError(f"not a tokenizer: {error}") from error

    def to_json(self) -> str:
        return self.backend.to_str(pretty=True)

    def to_json_for_others(self) -> str:
        """A file with which the `tokenizers` library alone decodes the ids before END as `decode` does."""
        other = tokenizers.Tokenizer.from_str(self.backend.to_str())
        if self.by_words:
            apart = rf"^(?!({'|'.join(map(re.escape, CLITICS))})$)"
            brackets = [decoders.Replace(name, bracket) for name, bracket in BRACKETS.items()]
            spaces = [decoders.Replace(tokenizers.Regex(apart), " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
            other.decoder = decoders.Sequence([*brackets, *spaces])
        else:
            strip = decoders.Replace(tokenizers.Regex(r"\A\s+|\s+\z"), "")
            other.decoder = decoders.Sequence([self.backend.decoder, strip])
        return other.to_str(pretty=True)

    @property
    def most_frequent(self) -> int:
        """From this id on entries stand by falling frequency: words, or pairs as they were merged, after all bytes; or
        whole words, after the characters that BERT's pieces begin with."""
        if self.by_words or self.by_bytes:
            return len(SPECIAL_TOKENS) + (len(BYTES) if self.by_bytes else 0)
        tokens = (self.backend.id_to_token(i) or "" for i in range(len(SPECIAL_TOKENS), len(self)))
        places = (i for i, token in enumerate(tokens, len(SPECIAL_TOKENS)) if len(token) > 1 and token.isalpha())
        return next(places, len(SPECIAL_TOKENS))

    def __len__(self) -> int:
        """V, the size of the vocabulary."""
        return self.backend.get_vocab_size()

    def encode_all(self, captions: Sequence[str]) -> list[list[int]]:
        """The ids of each caption, without START and END."""
        if self.by_words:
            captions = [" ".join(_plain(caption)) for caption in captions]
        return [found.ids for found in self.backend.encode_batch_fast(captions, add_special_tokens=False)]

    def encode_apart(self, captions: Sequence[str]) -> list[list[int]]:
        """As `encode_all`, but words that are not in the vocabulary are told apart, by numbers from V on."""
        if not self.by_words:
            return self.encode_all(captions)
        numbers = collections.defaultdict[str, int](lambda: len(numbers), self.backend.get_vocab())
        return [[numbers[word] for word in _plain(caption)] for caption in captions]

    def unknown(self, text: str) -> list[str]:
        """Words of a text that are not in the vocabulary."""
        words = _plain(text) if self.by_words else text.split()
        return [word for word, ids in zip(words, self.encode_all(words), strict=True) if UNKNOWN in ids]

    def encode(self, caption: str, length: int) -> Int[np.ndarray, " U"]:
        """START, the ids, END, then PAD: U = length + 1. A caption too long is cut, and then has no END."""
        return framed(self.encode_all([caption])[0], length)

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The caption up to END, without special tokens."""
        kept: list[int] = []
        for i in map(int, ids):
            if i == END:
                break
            if i not in (PAD, START):
                kept.append(i)
        if not self.by_words:
            return self.backend.decode([i for i in kept if i != UNKNOWN]).strip()
        return joined(self.backend.id_to_token(i) or "" for i in kept)

    def name(self, token: int | np.integer) -> str:
        """What a token is by itself: a word, or bytes of a text, such as " dog", or <e7> for a part of a character; or
        a piece of a word, such as " dog" and "s"."""
        letters = self.backend.id_to_token(int(token)) or ""
        if self.by_words or token < len(SPECIAL_TOKENS):
            return joined([letters])
        if not self.by_bytes:
            return letters.removeprefix(GOES_ON) if letters.startswith(GOES_ON) else f" {letters}"
        if not BYTES.keys() >= {*letters}:  # a token that was added to the pairs
            return letters
        content = bytes(BYTES[letter] for letter in letters)
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError:
            return f"<{content.hex(' ')}>"


def train_words(captions: Iterable[str], min_count: int) -> Tokenizer:
    """Words as the caption evaluation counts them, those seen at least `min_count` times, the most frequent first.

    The convention of Karpathy and Fei-Fei 2015, section 4: lower case, no punctuation, rare words left out.
    """
    counts = collections.Counter(word for caption in captions for word in _plain(caption))
    words = sorted((word for word, n in counts.items() if n >= min_count), key=lambda w: (-counts[w], w))
    ids = {word: i for i, word in enumerate([*SPECIAL_TOKENS, *words])}
    backend = tokenizers.Tokenizer(models.WordLevel(ids, unk_token=SPECIAL_TOKENS[UNKNOWN]))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return Tokenizer(backend)


def train_bpe(captions: Iterable[str], vocabulary: int) -> Tokenizer:
    """Byte pairs, merged by frequency up to `vocabulary` entries (Sennrich et al. 2016, section 3.2, on bytes).

    Every text is some ids, and comes back as it was, but for blanks at its ends: capitals, punctuation, any script.
    """
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(captions, trainer)
    return Tokenizer(backend)


def of_byte_pairs(tokens: Sequence[str], merges: Sequence[tuple[str, str]]) -> Tokenizer:
    """Byte pairs as GPT-2 has them: these entries after the special tokens, merged in this order.

    Raises ValueError where they do not go together.
    """
    try:
        backend = tokenizers.Tokenizer(models.BPE(vocab=_after_special(tokens), merges=list(merges)))
    except Exception as error:  # the library raises bare Exception
        raise ValueError(str(error)) from error
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(SPECIAL_TOKENS))
    return Tokenizer(backend)


def of_word_pieces(tokens: Sequence[str]) -> Tokenizer:
    """Pieces of words as BERT has them in lower case: these entries after the special tokens.

    A word is cut into the longest pieces from its beginning on (Schuster and Nakajima 2012; Devlin et al. 2019,
    section 3).
    """
    pieces = models.WordPiece(
        vocab=_after_special(tokens), unk_token=SPECIAL_TOKENS[UNKNOWN], continuing_subword_prefix=GOES_ON
    )
    backend = tokenizers.Tokenizer(pieces)
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    apostrophes = decoders.Replace(tokenizers.Regex(r"(?<=\w) ' (?=(s|t|m|d|re|ve|ll)\b)"), "'")
    backend.decoder = decoders.Sequence([decoders.WordPiece(GOES_ON, cleanup=True), decoders.Fuse(), apostrophes])
    backend.add_special_tokens(list(SPECIAL_TOKENS))
    return Tokenizer(backend)


def _after_special(tokens: Sequence[str]) -> dict[str, int]:
    return {token: number for number, token in enumerate([*SPECIAL_TOKENS, *tokens])}


def framed(ids: Sequence[int] | np.ndarray, length: int) -> Int[np.ndarray, " U"]:
    """START, the ids, END, then PAD: U = length + 1. What is too long is cut, and then has no END."""
    row = np.full(length + 1, PAD, np.int32)
    whole = [START, *ids, END][: length + 1]
    row[: len(whole)] = whole
    return row


def joined(words: Iterable[str]) -> str:
    """Words as one writes them: what the Penn Treebank cuts off a word is put back, and brackets are brackets."""
    text = ""
    for word in words:
        text += word if word in CLITICS else f" {word}"
    for name, bracket in BRACKETS.items():
        text = text.replace(name, bracket)
    return text.removeprefix(" ")


def _plain(caption: str) -> list[str]:
    """Its words, of which none is taken for a special token, and none holds a space."""
    return [part for part in ptb.parts(caption) if part not in SPECIAL_TOKENS]
