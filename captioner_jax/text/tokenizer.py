"""Words to ids and back: lower case, punctuation dropped, a word an id. Kept as a Hugging Face `tokenizers` file."""

import collections
from collections.abc import Iterable, Sequence

import numpy as np
import tokenizers
from jaxtyping import Int
from tokenizers import models, normalizers, pre_tokenizers

from captioner_jax.text.special import END, PAD, SPECIAL_TOKENS, START, UNKNOWN


class Tokenizer:
    """A vocabulary, and the way from captions to ids and back."""

    def __init__(self, backend: tokenizers.Tokenizer):
        """Raises ValueError where the special tokens are not the first four of the vocabulary."""
        if [backend.id_to_token(i) for i in range(4)] != list(SPECIAL_TOKENS):
            raise ValueError(f"this tokenizer's first tokens are not {' '.join(SPECIAL_TOKENS)}")
        self.backend = backend

    @staticmethod
    def train(captions: Iterable[Sequence[str]], min_count: int) -> "Tokenizer":
        """A vocabulary of the words seen at least `min_count` times in images' captions, the most frequent first."""
        backend = tokenizers.Tokenizer(models.WordLevel({}, unk_token=SPECIAL_TOKENS[UNKNOWN]))
        backend.normalizer = normalizers.Sequence(
            [
                normalizers.NFC(),
                normalizers.Lowercase(),
                normalizers.Replace(tokenizers.Regex(r"[^\p{L}\p{M}\p{N}'’-]|(?<!\w)['’-]+|['’-]+(?!\w)"), " "),
            ]
        )
        backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        counts = collections.Counter(word for of_image in captions for word in _words(backend, "\n".join(of_image)))
        words = sorted((word for word, n in counts.items() if n >= min_count), key=lambda w: (-counts[w], w))
        backend.model = models.WordLevel(
            {word: i for i, word in enumerate([*SPECIAL_TOKENS, *words])}, unk_token=SPECIAL_TOKENS[UNKNOWN]
        )
        return Tokenizer(backend)

    @staticmethod
    def from_json(text: str) -> "Tokenizer":
        """Raises ValueError where `text` is no tokenizer of this project's."""
        try:
            return Tokenizer(tokenizers.Tokenizer.from_str(text))
        except Exception as error:  # the library raises bare Exception
            raise ValueError(f"not a tokenizer: {error}") from error

    def to_json(self) -> str:
        return self.backend.to_str(pretty=True)

    def __len__(self) -> int:
        """V, the size of the vocabulary."""
        return self.backend.get_vocab_size()

    def words(self, caption: str) -> list[str]:
        """The caption as the model is shown it, before rare words become <unk>."""
        return _words(self.backend, caption)

    def encode(self, caption: str, length: int) -> Int[np.ndarray, " U"]:
        """START, the words, END, then PAD: U = length + 1 ids. A caption too long is cut, and then has no END."""
        ids = [START, *self.backend.encode(caption, add_special_tokens=False).ids, END][: length + 1]
        return np.asarray(ids + [PAD] * (length + 1 - len(ids)), np.int32)

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The words up to END, without special tokens."""
        words = []
        for i in ids:
            if i == END:
                break
            if i not in (PAD, START):
                words.append(self.backend.id_to_token(int(i)))
        return " ".join(words)


def _words(backend: tokenizers.Tokenizer, caption: str) -> list[str]:
    normalised = backend.normalizer.normalize_str(caption)
    return [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(normalised)]
