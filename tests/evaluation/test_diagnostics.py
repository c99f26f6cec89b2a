"""Diagnostics by hand."""

import pytest

from captioner_jax.evaluation.diagnostics import diagnose


def cut(*captions):
    return [caption.split() for caption in captions]


def test_by_hand():
    captions = cut("a dog runs", "a dog runs", "a cat on a", "")
    known = diagnose(captions, training=cut("a dog runs", "a cat"), truncated=[False, False, True, False])
    assert known._asdict() == {
        "captions": 4,
        "vocabulary": 5,
        "distinct_1": 5 / 10,
        "distinct_2": 5 / 10,  # "a dog", "dog runs", "a cat", "cat on", "on a"; none across captions
        "mean_length": 10 / 4,
        "copied": 2 / 4,
        "bad_endings": 1 / 4,
        "truncated": 1 / 4,
    }


def test_what_is_not_told_is_not_known():
    known = diagnose(cut("a dog"))
    assert known.copied is None
    assert known.truncated is None


def test_empty_captions_have_nothing():
    assert diagnose([[], []])[:5] == (2, 0, 0, 0, 0)


@pytest.mark.parametrize("word", ["a", "the", "of", "with", "and"])
def test_bad_endings(word):
    assert diagnose([["dog", word], [word, "dog"]]).bad_endings == 0.5


def test_mistakes_are_refused():
    with pytest.raises(ValueError, match="sequence of words"):
        diagnose(["a dog"])
    with pytest.raises(ValueError, match="sequence of words"):
        diagnose([])
    with pytest.raises(ValueError, match="2 times"):
        diagnose([["a"]], truncated=[True, False])
