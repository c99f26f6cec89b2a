"""ptb_golden.jsonl and the checksum are the official Java tokenizer's answers: see make_ptb_golden.py."""

import hashlib
import itertools
import json
import os
import random
import re
import unicodedata
from pathlib import Path

import pytest

from captioner_jax.text import ptb
from captioner_jax.text.ptb import words

ROWS = Path(__file__).with_name("ptb_golden.jsonl").read_text("utf-8").splitlines()
GOLDEN = [json.loads(row) for row in ROWS]
FLICKR8K = os.environ.get("CAPTIONER_JAX_FLICKR8K", "")


def random_texts(seed, alphabet, count=2000):
    chance = random.Random(seed)
    return ["".join(chance.choices(alphabet, k=chance.randrange(20))) for _ in range(count)]


def any_characters(seed):
    chance = random.Random(seed)
    return [chr(chance.randrange(0x110000)) for _ in range(2000)] + [chr(c) for c in range(0x250)] * 3


def test_the_words_are_the_official_ones():
    assert len(GOLDEN) > 1000
    wrong = {row["text"]: (words(row["text"]), row["words"]) for row in GOLDEN if words(row["text"]) != row["words"]}
    assert not wrong


@pytest.mark.skipif(
    not (Path(FLICKR8K) / "Flickr8k.token.txt").is_file(), reason="CAPTIONER_JAX_FLICKR8K names no folder with Flickr8k"
)
def test_the_words_of_flickr8k_are_the_official_ones():
    lines = (Path(FLICKR8K) / "Flickr8k.token.txt").read_text("utf-8").split("\n")
    captions = [line.partition("\t")[2] for line in lines if line]
    assert len(captions) == 40455
    scored = "\n".join(
        " ".join(ptb._scored(caption, following) if re.search(r"\w\. *$", caption) else words(caption))
        for caption, following in itertools.pairwise([*captions, ""])
    )
    assert (
        hashlib.sha256(scored.encode()).hexdigest()
        == "040c964935b9501fcf3322c186336ba57b8a465f387952dc68969c2deb652a17"
    )


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A man's dog can't swim.", "a man 's dog ca n't swim"),
        ("two t-shirts, $5 each!", "two t-shirts $ 5 each"),
        ("the U.S. flag (small)", "the u.s. flag -lrb- small -rrb-"),
        ("", ""),
        (" . , ; - -- ... ' \" ", ""),
    ],
)
def test_examples(caption, expected):
    assert words(caption) == expected.split()


def test_any_string_has_words_without_blanks():
    for text in random_texts(0, any_characters(0)) + random_texts(1, [chr(c) for c in range(32, 127)]):
        for word in words(text):
            assert word
            assert word not in ptb.PUNCTUATION
            assert not set(word) & set(" \t\n\r\v\f")


def test_words_in_lower_case_stay_as_they_are():
    for text in random_texts(2, "abcdefghijklmnopqrstuvwxyz" + "ÀÉéßйжλ日本"):
        assert words(text) == ([unicodedata.normalize("NFC", text).lower()] if text else [])


def test_plain_captions_take_a_short_way_to_the_same_words():
    for text in random_texts(3, "aabdeglmnorstvw  IATM" * 2 + ",;:!?'\"()&-.", count=3000):
        assert words(text) == ptb._scored(text)


def test_line_ends_are_blanks():
    for end in "\n\r\v\f\u2028\u2029":
        assert words(f"a dog{end}runs") == ["a", "dog", "runs"]
        assert words(f"no.{end}5") == words("no. 5")


def test_the_next_caption_tells_whether_a_letter_ends_a_sentence():
    assert words("a man on bench B.") == ["a", "man", "on", "bench", "b."]
    assert ptb._scored("a man on bench B.", "a dog runs") == ["a", "man", "on", "bench", "b."]
    assert ptb._scored("a man on bench B.", "A dog runs") == ["a", "man", "on", "bench", "b"]
