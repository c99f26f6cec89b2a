"""Captions to ids and back."""

import json
import re

import pytest
import tokenizers

from captioner_jax.text.special import END, PAD, SPECIAL_TOKENS, START, UNKNOWN
from captioner_jax.text.tokenizer import Tokenizer, of_byte_pairs, of_word_pieces, train_bpe, train_words
from tests.pretrained.captioners import PIECES

WORDS = train_words(["A dog runs .", "the dog", "A tri-colored dog's ball", "it can't", "(no)"], 1)
TEXTS = [
    'A man, 40, rides his "bike" (fast)!',
    "  two  spaces\tand a tab ",
    "一只猫在睡觉。",
    "ein Bär läuft über die Straße",
    "a dog 🐶🏽 and a flag 🇩🇪",
    "قطة على السرير",
    "<end> <start> dog <pad>",
    "",
]
BYTES = train_bpe(TEXTS[:4] * 5, 400)


@pytest.mark.parametrize("caption", ["a dog", "the tri-colored ball", "a dog's dog", "it can't", "a ( no ) dog", ""])
def test_decoding_words_undoes_encoding(caption):
    assert WORDS.decode(WORDS.encode(caption, 10)) == caption


@pytest.mark.parametrize("caption", TEXTS)
def test_bytes_take_any_text_and_give_it_back(caption):
    ids = BYTES.encode(caption, 200)
    assert UNKNOWN not in ids
    assert BYTES.decode(ids) == caption.strip()


def test_bytes_merge_what_is_frequent():
    assert 300 < len(BYTES) <= 400
    seen, unseen = (sum(len(ids) for ids in BYTES.encode_all([text])) for text in ("一只猫在睡觉。", "二隻狗站起來。"))
    assert seen < unseen / 2


def test_a_cut_through_a_letter_does_not_break_decoding():
    for length in range(2, 12):
        assert BYTES.decode(BYTES.encode("二隻狗🐶", length)) is not None


def test_a_token_has_a_name_of_its_own():
    assert [WORDS.name(i) for i in (END, *WORDS.encode_all(["it can't"])[0])] == ["<end>", "it", "ca", "n't"]
    names = [BYTES.name(i) for i in range(len(BYTES))]
    assert len(set(names)) == len(names)
    assert names[: len(SPECIAL_TOKENS)] == list(SPECIAL_TOKENS)
    assert "".join(BYTES.name(i) for i in BYTES.encode_all(["a dog"])[0]) == "a dog"
    (first, *_) = BYTES.encode_all(["狗"])[0]
    assert re.fullmatch(r"<e7( 8b)?>", BYTES.name(first))


def test_brackets_inside_a_word_are_brackets():
    (ids,) = train_words(["a cat :-( sits"], 1).encode_all(["a cat :-( sits"])
    assert train_words(["a cat :-( sits"], 1).decode(ids) == "a cat :-( sits"


def test_ids_have_their_places():
    ids = WORDS.encode("A zebra runs!", 6).tolist()
    assert ids[0] == START
    assert ids[2] == UNKNOWN
    assert ids[4:] == [END, PAD, PAD]


def test_a_long_caption_is_cut_and_has_no_end():
    assert END not in WORDS.encode("a dog a dog a dog", 4)


@pytest.mark.parametrize("tokenizer", [WORDS, BYTES])
def test_special_tokens_in_a_caption_are_mere_text(tokenizer):
    ids = tokenizer.encode("<end> <start> dog", 60).tolist()
    assert ids.count(END) == 1
    assert ids.count(START) == 1


def test_words_that_are_not_known_may_be_told_apart():
    tokenizer = train_words(["a dog", "a cat"], 1)
    one, two = tokenizer.encode_apart(["a gnu meets a yak", "a yak"])
    assert one == [*tokenizer.encode_all(["a"])[0], len(tokenizer), len(tokenizer) + 1, one[0], len(tokenizer) + 2]
    assert two == [one[0], one[4]]
    by_bytes = train_bpe(["a dog"], 300)
    assert by_bytes.encode_apart(["a gnu"]) == by_bytes.encode_all(["a gnu"])


def test_rare_words_are_unknown():
    assert len(train_words(["a a b"], 2)) == 5


def test_a_word_is_what_the_evaluation_counts():
    vocabulary = train_words(["The dog's owner, Mr. Smith, can't come: it's 5-year-old."], 1).backend.get_vocab()
    words = ["the", "dog", "'s", "owner", "mr.", "smith", "ca", "n't", "come", "it", "5-year-old"]
    assert set(vocabulary) == {*SPECIAL_TOKENS, *words}


@pytest.mark.parametrize("tokenizer", [WORDS, BYTES])
def test_the_file_keeps_everything(tokenizer):
    again = Tokenizer.from_json(tokenizer.to_json())
    assert again.encode("a dog's ball <end>", 30).tolist() == tokenizer.encode("a dog's ball <end>", 30).tolist()


def test_the_file_is_hugging_faces():
    file = tokenizers.Tokenizer.from_str(WORDS.to_json())
    assert file.encode("the dog").ids == WORDS.encode_all(["the dog"])[0]


@pytest.mark.parametrize("text", ["{}", "", json.dumps({"model": 1})])
def test_other_files_are_refused(text):
    with pytest.raises(ValueError, match="not a tokenizer"):
        Tokenizer.from_json(text)


@pytest.mark.parametrize("kind", ["words", "bpe"])
def test_others_decode_as_this_project_does(kind):
    captions = [
        "a dog's ball isn't red (it is blue)",
        "two men [they'd run] , a cat & 狗 {say} 'hello'",
        "i'm n't :-( (555) 555-1234",
        " a dog \n\n runs \n",
    ]
    tokenizer = train_words(captions, 1) if kind == "words" else train_bpe(captions, 300)
    other = tokenizers.Tokenizer.from_str(tokenizer.to_json_for_others())
    for ids in tokenizer.encode_all(captions):
        for some in (ids, ids[1:], ids[::-1], ids[:1], []):
            assert other.decode(some) == tokenizer.decode(some)


@pytest.mark.parametrize(
    ("caption", "again"),
    [
        *((one, one) for one in ("they're", "i've", "they'd", "we'll", "i'm", "it's", "isn't")),
        ("we 'll go", "we'll go"),
        ("a (b) [c] {d}", "a ( b ) [ c ] { d }"),
    ],
)
def test_what_is_cut_off_a_word_comes_back(caption, again):
    tokenizer = train_words([caption], 1)
    assert tokenizer.decode(tokenizer.encode(caption, 20)) == again


def test_words_are_in_the_order_of_their_frequency():
    """Which a consensus weighs them by; alike in it, in that of the alphabet."""
    tokenizer = train_words(["z z z y y x", "b b a"], 1)
    assert [tokenizer.name(i) for i in range(len(SPECIAL_TOKENS), len(tokenizer))] == ["z", "b", "y", "a", "x"]


def test_pieces_have_names():
    pieces = of_word_pieces(PIECES)
    names = [pieces.name(i) for (ids,) in [pieces.encode_all(["running dogs"])] for i in ids]
    assert names == [" run", "ning", " dog", "s"]
    assert [pieces.name(i) for i in (PAD, UNKNOWN)] == [SPECIAL_TOKENS[PAD], SPECIAL_TOKENS[UNKNOWN]]


def test_pieces_are_kept_and_come_back_and_others_read_them():
    pieces = of_word_pieces(PIECES)
    text = "A dog's red dogs running."
    again = type(pieces).from_json(pieces.to_json())
    assert again.encode_all([text]) == pieces.encode_all([text])
    (ids,) = pieces.encode_all([text])
    assert tokenizers.Tokenizer.from_str(pieces.to_json_for_others()).decode(ids) == pieces.decode(ids)


def test_pairs_that_do_not_go_together_are_refused():
    with pytest.raises(ValueError, match="out of vocabulary"):
        of_byte_pairs(["a", "b"], [("a", "x")])


def test_frequent_words_begin_after_characters():
    pieces = of_word_pieces(["[unused0]", "!", "a", "##b", "the", "of", "##s", "dog"])
    assert pieces.name(pieces.most_frequent) == " the"


def test_a_token_that_was_added_to_pairs_has_its_own_name():
    assert of_byte_pairs(["a", "b c"], []).name(5) == "b c"
