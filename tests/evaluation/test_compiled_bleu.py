"""BLEU-4 of single captions on the device, against the evaluation's counts."""

import jax
import jax.numpy as jnp
import numpy as np

from captioner_jax.evaluation.bleu import bleu_counts
from captioner_jax.evaluation.compiled_bleu import sentence_bleu_4
from captioner_jax.evaluation.compiled_ngrams import filled
from tests.evaluation.test_compiled_cider import drawn, spelled

SCORE = jax.jit(sentence_bleu_4)


def test_it_is_made_of_the_evaluations_counts():
    rng = np.random.default_rng(0)
    references = [[caption or [1] for caption in captions] for captions in drawn(rng, 200, 12, 14)]
    candidates = [drawn(rng, 1, 12, 12, 1)[0][0] or [2] for _ in references]
    found = SCORE(jnp.asarray(filled([[c] for c in candidates])), jnp.asarray(filled(references)))[:, 0]
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
