"""BLEU-4 of single captions on the device, against the evaluation's counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from captioner_jax.evaluation.bleu import bleu_counts
from captioner_jax.evaluation.compiled_bleu import sentence_bleu_4
from captioner_jax.text.compiled_ngrams import LONGEST, counts, filled
from tests.evaluation.test_compiled_cider import drawn, padded, spelled

SCORE = jax.jit(sentence_bleu_4)


@pytest.mark.parametrize("longest", [2, 3, 14])
def test_it_is_made_of_the_evaluations_counts(longest):
    rng = np.random.default_rng(0)
    references = [[caption or [1] for caption in captions] for captions in drawn(rng, 200, 12, longest)]
    candidates = [drawn(rng, 1, 12, longest, 1)[0][0] or [2] for _ in references]
    ids = padded(candidates, longest)[:, None]
    found = SCORE(jnp.asarray(ids), jnp.asarray(filled(references)))[:, 0]
    counts = bleu_counts(spelled(candidates), [spelled(captions) for captions in references])
    more = np.array([0, 1, 1, 1])
    precisions = (counts.correct + more) / (counts.guess + more)
    brevity = np.exp(np.minimum(0, 1 - counts.reflen / counts.testlen))
    expected = precisions.prod(-1) ** 0.25 * brevity
    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_a_reference_is_perfect_and_nothing_is_worth_nothing():
    references = jnp.asarray(filled([[[1, 2, 3, 4, 5], [6, 7]]]))
    candidates = jnp.asarray([[[1, 2, 3, 4, 5], [0, 0, 0, 0, 0]]])
    np.testing.assert_allclose(SCORE(candidates, references), [[1.0, 0.0]], atol=1e-6)


def test_as_many_words_alike_are_counted_as_a_caption_may_have():
    alike = jnp.full((LONGEST, 1), 5)
    assert counts(alike, alike)[0][0, 0] == LONGEST
    with pytest.raises(ValueError, match="too long"):
        counts(*[jnp.full((LONGEST + 1, 1), 5)] * 2)
