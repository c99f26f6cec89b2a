"""CIDEr-D on the device is CIDEr-D."""

import json
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from captioner_jax.evaluation import compiled_cider
from captioner_jax.evaluation.cider import cider_d, document_frequencies
from captioner_jax.evaluation.compiled_cider import CompiledCiderD
from captioner_jax.evaluation.ngram_table import NgramTable
from captioner_jax.text import ptb
from captioner_jax.text.special import PAD

SCORE = jax.jit(CompiledCiderD.score)


def drawn(rng, images, words, longest, references=5):
    """Captions of frequent and rare words, of which some are empty and images have unlike numbers."""
    caption = lambda: (1 + rng.zipf(1.5, rng.integers(0, longest + 1)) % words).tolist()
    return [[caption() for _ in range(rng.integers(1, references + 1))] for _ in range(images)]


def padded(captions, length):
    return np.array([caption + [PAD] * (length - len(caption)) for caption in captions], np.int32)


def spelled(captions):
    return [[str(word) for word in caption] for caption in captions]


def both(candidates, references):
    """Scores [images K] on the device, and by the evaluation; K candidates an image."""
    length = max(len(c) for some in candidates for c in some)
    ids = jnp.asarray(np.stack([padded(some, length) for some in candidates]))
    found = SCORE(CompiledCiderD.of(references), ids, jnp.arange(len(references)))
    spelled_references = [spelled(captions) for captions in references]
    frequencies = document_frequencies(spelled_references)
    columns = [cider_d(spelled(column), spelled_references, frequencies) for column in zip(*candidates, strict=True)]
    return np.asarray(found), np.stack(columns, 1)


@pytest.mark.parametrize("words", [3, 40, 3000])
def test_it_equals_the_evaluation_on_random_captions(words):
    rng = np.random.default_rng(words)
    references = drawn(rng, 300, words, 14)
    candidates = [[*drawn(rng, 1, words, 12, 1)[0], captions[0], captions[-1][:5]] for captions in references]
    found, expected = both(candidates, references)
    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_it_equals_the_evaluation_on_peoples_captions():
    folder = os.environ.get("CAPTIONER_JAX_FLICKR8K")
    if folder is None:
        pytest.skip("CAPTIONER_JAX_FLICKR8K names no folder of Flickr8k")
    images = json.loads((Path(folder) / "captions.json").read_text())["images"]
    captions = [[ptb.words(caption) for caption in one["captions"]] for one in images if one["split"] == "test"]
    number = {word: 1 + i for i, word in enumerate(sorted({w for some in captions for c in some for w in c}))}
    ids = [[[number[word] for word in caption] for caption in some] for some in captions]
    others = ids[1:] + ids[:1]
    found, expected = both([[a[0], b[0], a[0][:6]] for a, b in zip(ids, others, strict=True)], [a[1:] for a in ids])
    assert 0.6 < expected[:, 0].mean() < 1.0
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_nothing_written_scores_nothing_and_padding_changes_nothing():
    references = [[[1, 2, 3]], [[1, 2, 4]], [[5]]]
    scorer = CompiledCiderD.of(references)
    score = lambda ids, image: float(SCORE(scorer, jnp.asarray([[ids]], jnp.int32), jnp.asarray([image]))[0, 0])
    assert score([PAD] * 6, 0) == 0
    assert score([1, 2, 3, PAD], 0) == score([1, 2, 3] + [PAD] * 9, 0) > 0


@pytest.mark.parametrize("longest", [2, 3])
def test_captions_may_be_shorter_than_the_longest_ngram(longest):
    rng = np.random.default_rng(longest)
    references = drawn(rng, 50, 5, longest)
    found, expected = both([[captions[0]] for captions in references], references)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_an_image_without_references_is_refused():
    with pytest.raises(ValueError, match="image 1 has no references"):
        CompiledCiderD.of([[[1]], []])


def test_images_may_come_in_any_order():
    rng = np.random.default_rng(0)
    references = drawn(rng, 20, 30, 9)
    scorer, ids = CompiledCiderD.of(references), jnp.asarray(padded([some[0] for some in references], 9))[:, None]
    order = rng.permutation(20)
    there, here = SCORE(scorer, ids[order], jnp.asarray(order)), SCORE(scorer, ids, jnp.arange(20))
    np.testing.assert_allclose(there, here[order], rtol=1e-6)


def test_the_table_knows_the_frequencies_of_all_ngrams():
    rng = np.random.default_rng(1)
    references = drawn(rng, 400, 50, 12)
    frequencies = document_frequencies([spelled(captions) for captions in references])
    captions = [caption[:6] for some in references for caption in some if len(caption) >= 6]
    captions = np.array(captions + rng.integers(1, 60, (200, 6)).tolist(), np.int32)
    for n, weights in enumerate(NgramTable.of(references).weights(jnp.asarray(captions)), 1):
        grams = [[tuple(map(str, caption[i : i + n])) for i in range(7 - n)] for caption in captions.tolist()]
        found = [[frequencies.counts.get(gram, 0) for gram in row] for row in grams]
        np.testing.assert_allclose(weights, np.log(400) - np.log(np.maximum(1, found)), rtol=1e-5, atol=1e-6)


def test_norms_are_of_all_images_however_many_are_counted_at_once(monkeypatch):
    rng = np.random.default_rng(0)
    references = [[rng.integers(1, 30, rng.integers(3, 9)).tolist() for _ in range(2)] for _ in range(50)]
    whole = CompiledCiderD.of(references)
    monkeypatch.setattr(compiled_cider, "CHUNK", 16)
    np.testing.assert_allclose(CompiledCiderD.of(references).norms, whole.norms, rtol=1e-6)
