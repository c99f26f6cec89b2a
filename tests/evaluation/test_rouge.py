"""ROUGE-L by hand, and the bits against the dynamic programme."""

import random

import numpy as np
import pytest

from captioner_jax.evaluation.rouge import common_lengths, rouge_l
from tests.evaluation.make_official_scores import synthetic


def cut(*captions):
    return [caption.split() for caption in captions]


def written_out(a, b):
    """The longest common subsequence, cell by cell (Cormen et al., equation 15.9)."""
    length = np.zeros((len(a) + 1, len(b) + 1), int)
    for i in range(len(a)):
        for j in range(len(b)):
            same = a[i] == b[j]
            length[i + 1, j + 1] = length[i, j] + 1 if same else max(length[i, j + 1], length[i + 1, j])
    return length[-1, -1]


@pytest.mark.parametrize("letters", ["ab", "abcdefgh"])
def test_bits_equal_the_dynamic_programme(letters):
    rng = random.Random(0)
    captions = [[rng.choice(letters) for _ in range(length)] for length in (0, 1, 2, 5, 9, 17, 40, 63, 64, 65, 130)]
    for a in captions:
        assert common_lengths(a, captions) == [written_out(a, b) for b in captions]


def test_by_hand():
    """Lin 2004, section 3.1: "police kill the gunman" has 3 of 4 words in common, "the gunman kill police" 2 of 4."""
    references = [cut("police killed the gunman")] * 2
    np.testing.assert_allclose(
        rouge_l(cut("police kill the gunman", "the gunman kill police"), references), [3 / 4, 2 / 4]
    )


def test_precision_and_recall_may_come_from_different_references():
    precision, recall = 3 / 3, 1 / 1  # of the first reference 3 of 3 words; of the second 1 of 1
    expected = (1 + 1.2**2) * precision * recall / (recall + 1.2**2 * precision)
    np.testing.assert_allclose(rouge_l(cut("a b c"), [cut("a x b x c x", "b")]), expected)
    precision, recall = 2 / 3, 2 / 6
    expected = (1 + 1.2**2) * precision * recall / (recall + 1.2**2 * precision)
    np.testing.assert_allclose(rouge_l(cut("a b z"), [cut("a x b x c x")]), expected)


def test_empty_captions():
    assert rouge_l([[], [], ["a"]], [cut("a", "b"), cut("", "b"), cut("", "b")]).tolist() == [0, 1, 0]


def test_perfect_captions_score_one():
    _, references = synthetic(50)
    assert (rouge_l([captions[-1] for captions in references], references) == 1).all()
