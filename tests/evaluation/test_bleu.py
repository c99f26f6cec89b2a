"""BLEU by hand and by its laws."""

import math

import numpy as np
import pytest

from captioner_jax.evaluation.bleu import SMALL, bleu, bleu_counts
from tests.evaluation.make_official_scores import synthetic


def cut(*captions):
    return [caption.split() for caption in captions]


def test_counts_by_hand():
    """Papineni et al. 2002, section 2.1: "the" counts twice, as often as the reference that has it most."""
    candidates = cut("the the the the the the the")
    references = [cut("the cat is on the mat", "there is a cat on the mat")]
    counts = bleu_counts(candidates, references)
    assert counts.correct.tolist() == [[2, 0, 0, 0]]
    assert counts.guess.tolist() == [[7, 6, 5, 4]]
    assert (counts.testlen.tolist(), counts.reflen.tolist()) == ([7], [7])


def test_of_two_references_equally_close_in_length_the_shorter_counts():
    counts = bleu_counts(cut("a b c d", "a b", ""), [cut("a b c d e", "a b c"), cut("a b c d", "a"), cut("a b", "a")])
    assert counts.reflen.tolist() == [3, 1, 1]


def test_short_captions_pay():
    counts = bleu_counts(cut("a b c d e f"), [cut("a b c d e f g h")])
    np.testing.assert_allclose(bleu(counts), math.exp(1 - 8 / 6), atol=1e-8)


def test_a_mean_of_precisions_by_hand():
    counts = bleu_counts(cut("a b c x e"), [cut("a b c d e")])
    expected = [4 / 5, (4 / 5 * 2 / 4) ** (1 / 2), (4 / 5 * 2 / 4 * 1 / 3) ** (1 / 3), 0]
    np.testing.assert_allclose(bleu(counts)[0, :3], expected[:3], atol=1e-8)
    assert bleu(counts)[0, 3] < 1e-3


def test_perfect_captions_score_all_but_one():
    _, references = synthetic(50)
    whole = [[words for words in captions if len(words) > 3] for captions in references]
    whole = [captions for captions in whole if captions]
    counts = bleu_counts([captions[0] for captions in whole], whole)
    np.testing.assert_allclose(bleu(counts), 1, atol=4 * SMALL)
    np.testing.assert_allclose(bleu(counts.total()), 1, atol=SMALL)


def test_images_are_counted_each_for_itself():
    candidates, references = synthetic(60)
    order = np.random.default_rng(0).permutation(60)
    together = bleu_counts(candidates, references)
    mixed = bleu_counts([candidates[i] for i in order], [references[i] for i in order])
    alone = [bleu_counts([c], [r]) for c, r in zip(candidates, references, strict=True)]
    for name in ("correct", "guess", "testlen", "reflen"):
        values = getattr(together, name)
        np.testing.assert_array_equal(getattr(mixed, name), values[order])
        np.testing.assert_array_equal(np.concatenate([getattr(one, name) for one in alone]), values)


def test_no_caption_says_anything():
    counts = bleu_counts([[], []], [cut("a b"), [[]]])
    assert not counts.correct.any()
    assert not counts.guess.any()
    assert (bleu(counts.total()) == 0).all()


@pytest.mark.parametrize(
    ("candidates", "references", "message"),
    [
        ([], [], "0 candidates"),
        ([["a"]], [], "1 candidates for the references of 0 images"),
        ([["a"], ["b"]], [[["a"]], []], "image 1 has no references"),
        (["a dog"], [[["a"]]], "cut into words"),
        ([["a"]], [["a dog"]], "cut into words"),
    ],
)
def test_what_cannot_be_scored_is_refused(candidates, references, message):
    with pytest.raises(ValueError, match=message):
        bleu_counts(candidates, references)
