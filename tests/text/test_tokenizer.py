"""Words to ids and back."""

import pytest

from captioner_jax.text.special import END, PAD, START, UNKNOWN
from captioner_jax.text.tokenizer import Tokenizer

TOKENIZER = Tokenizer.train([("A dog runs .", "the dog"), ("A tri-colored dog's ball",)], 1)


def test_decoding_undoes_encoding():
    for caption in ("a dog runs", "the tri-colored ball", "a dog's dog"):
        assert TOKENIZER.decode(TOKENIZER.encode(caption, 10)) == caption


def test_ids_have_their_places():
    ids = TOKENIZER.encode("A zebra runs!", 6).tolist()
    assert ids[0] == START
    assert ids[2] == UNKNOWN
    assert ids[4:] == [END, PAD, PAD]


def test_a_long_caption_is_cut_and_has_no_end():
    assert END not in TOKENIZER.encode("a dog a dog a dog", 4)


def test_special_tokens_in_a_caption_are_mere_words():
    assert TOKENIZER.encode("<end> <start> dog", 8).tolist().count(END) == 1


def test_rare_words_are_unknown():
    assert len(Tokenizer.train([("a a b",)], 2)) == 5


def test_the_file_keeps_everything():
    again = Tokenizer.from_json(TOKENIZER.to_json())
    assert again.encode("a dog's ball", 8).tolist() == TOKENIZER.encode("a dog's ball", 8).tolist()
    with pytest.raises(ValueError, match="not a tokenizer"):
        Tokenizer.from_json("{}")
