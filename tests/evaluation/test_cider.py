"""CIDEr and CIDEr-D by their definition, and by their laws."""

import collections
import math

import numpy as np
import pytest

from captioner_jax.evaluation.cider import DocumentFrequencies, cider, cider_d, document_frequencies
from tests.evaluation.make_official_scores import synthetic


def cut(*captions):
    return [caption.split() for caption in captions]


def grams(words, n):
    return collections.Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def written_out(candidates, references, *, d):
    """The formulas, one n-gram after the other."""
    scores = []
    for c, rs in zip(candidates, references, strict=True):
        total = 0.0
        for n in range(1, 5):
            have = [set().union(*(grams(r, n) for r in captions)) for captions in references]

            def g(words, n=n, have=have):
                df = {gram: sum(gram in some for some in have) for gram in grams(words, n)}
                return {x: h * math.log(len(references) / max(1, df[x])) for x, h in grams(words, n).items()}

            for r in rs:
                a, b = g(c), g(r)
                dot = sum((min(a[x], b[x]) if d else a[x]) * b[x] for x in a.keys() & b.keys())
                norms = math.hypot(*a.values()) * math.hypot(*b.values())
                penalty = math.exp(-((len(c) - len(r)) ** 2) / 72) if d else 1
                total += 10 / 4 / len(rs) * penalty * (dot / norms if norms else 0)
        scores.append(total)
    return scores


@pytest.mark.parametrize("d", [False, True])
def test_equal_the_formulas_written_out(d):
    candidates, references = synthetic(30)
    mine = (cider_d if d else cider)(candidates, references)
    np.testing.assert_allclose(mine, written_out(candidates, references, d=d), rtol=1e-12, atol=1e-12)


def test_by_hand():
    """Three images; "a" is in the references of all, "dog" of two, "red" of one."""
    references = [cut("a red dog"), cut("a dog"), cut("a")]
    two, one = math.log(3 / 2), math.log(3)  # of "dog"; of "red", "a red", "red dog", "a dog", "a red dog"
    unigrams = two * two / (two * math.hypot(one, two))
    expected = 10 / 4 * unigrams * math.exp(-1 / 72)
    scores = cider_d(cut("a dog", "a dog", "a"), references)
    np.testing.assert_allclose(scores, [expected, 10 / 4 * 2, 0])


def test_a_word_said_again_and_again_is_clipped_only_in_cider_d():
    references = [cut("red dog runs fast"), cut("cat")]
    once, often = (scores(cut(text, "x"), references)[0] for scores, text in ((cider, "red"), (cider, "red red red")))
    assert once == pytest.approx(often)
    assert cider_d(cut("red red red", "x"), references)[0] < often / 2


def test_of_captions_equally_long_without_a_repeated_word_both_are_the_same():
    rng = np.random.default_rng(0)
    draw = lambda: [f"w{i}" for i in rng.permutation(12)[:8]]
    candidates, references = [draw() for _ in range(40)], [[draw(), draw()] for _ in range(40)]
    np.testing.assert_allclose(cider(candidates, references), cider_d(candidates, references), rtol=1e-12)


def test_identical_captions_score_ten_where_every_order_has_a_telling_ngram():
    told = cut("a red dog runs", "two men sit here now", "a cat on a log")
    for scores in (cider, cider_d):
        np.testing.assert_allclose(scores(told, [[words] for words in told]), 10)
        short = cut("red", "two men", "a cat on")  # no 2-, 3- or 4-grams: a quarter each is missing
        np.testing.assert_allclose(scores(short, [[words] for words in short]), [2.5, 5, 7.5])


def test_a_single_image_scores_zero():
    assert cider_d(cut("a dog"), [cut("a dog")]).tolist() == [0]
    assert cider(cut("a dog"), [cut("a dog")]).tolist() == [0]


def test_cider_d_is_at_most_cider():
    candidates, references = synthetic()
    assert (cider_d(candidates, references) <= cider(candidates, references) + 1e-12).all()


def test_the_order_of_images_and_of_references_does_not_matter():
    candidates, references = synthetic(60)
    order = np.random.default_rng(0).permutation(60)
    for scores in (cider, cider_d):
        mixed = scores([candidates[i] for i in order], [references[i][::-1] for i in order])
        np.testing.assert_allclose(mixed, scores(candidates, references)[order], rtol=1e-12, atol=1e-12)


def test_with_given_document_frequencies_an_image_is_scored_for_itself():
    candidates, references = synthetic(60)
    frequencies = document_frequencies(references)
    for scores in (cider, cider_d):
        together = scores(candidates, references)
        np.testing.assert_allclose(scores(candidates, references, frequencies), together, rtol=1e-13)
        alone = scores(candidates[7:8], references[7:8], frequencies)
        np.testing.assert_allclose(alone, together[7:8], rtol=1e-12)


def test_document_frequencies_count_images_not_references():
    frequencies = document_frequencies([cut("a dog", "a dog a dog"), cut("a cat"), cut("the cat", "")])
    assert frequencies == DocumentFrequencies(3, {("a",): 2, ("cat",): 2})
    assert document_frequencies([[[]], [[]]]) == DocumentFrequencies(2, {})


def test_empty_captions_score_zero():
    references = [cut("a dog", ""), cut("a cat")]
    assert cider_d([[], ["dog"]], references).tolist() == [0, 0]
    assert cider_d([[], []], [[[]], [[]]]).tolist() == [0, 0]
