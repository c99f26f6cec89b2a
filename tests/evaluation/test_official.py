"""Every score against the official COCO caption evaluation's (pycocoevalcap 1.2; make_official_scores.py).

Two tests want data: CAPTIONER_JAX_FLICKR8K names the folder of Flickr8k, CAPTIONER_JAX_METRIC_CHECK one with
results_973.json, refs_973.json and known_scores.json, captions of COCO images and the scores published for them.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from captioner_jax.evaluation.bleu import bleu, bleu_counts
from captioner_jax.evaluation.cider import cider_d
from captioner_jax.evaluation.rouge import rouge_l
from captioner_jax.text.ptb import words
from tests.evaluation.make_official_scores import EVERY, KINDS, corrupted, flickr8k_test_split, synthetic

OFFICIAL = json.loads(Path(__file__).with_name("official_scores.json").read_text())
FLICKR8K = Path(os.environ.get("CAPTIONER_JAX_FLICKR8K", ""))
METRIC_CHECK = Path(os.environ.get("CAPTIONER_JAX_METRIC_CHECK", ""))


def counts_of(total):
    return {name: getattr(total, name).tolist() for name in ("testlen", "reflen", "guess", "correct")}


def check(candidates, references, official, every=1):
    counts = bleu_counts(candidates, references)
    rouge, cider = rouge_l(candidates, references), cider_d(candidates, references)
    assert counts_of(counts.total()) == official["bleu_counts"]
    same = lambda mine, other: np.testing.assert_allclose(mine, other, rtol=1e-12, atol=1e-12)
    same(bleu(counts.total()), official["Bleu"])
    same(bleu(counts)[::every].T, official["images"]["Bleu"])
    same(rouge.mean(), official["ROUGE_L"])
    same(rouge[::every], official["images"]["ROUGE_L"])
    same(cider.mean(), official["CIDEr"])
    same(cider[::every], official["images"]["CIDEr"])


def test_synthetic_captions_of_all_qualities():
    check(*synthetic(), OFFICIAL["synthetic"])


@pytest.fixture(scope="module")
def flickr8k():
    if not (FLICKR8K / "Flickr8k.token.txt").is_file():
        pytest.skip("CAPTIONER_JAX_FLICKR8K names no folder with Flickr8k")
    return [[words(caption) for caption in captions] for captions in flickr8k_test_split(FLICKR8K)]


@pytest.mark.parametrize("kind", KINDS)
def test_people_s_captions_of_flickr8k_and_worse_ones(flickr8k, kind):
    first, others = [captions[0] for captions in flickr8k], [captions[1:] for captions in flickr8k]
    check(corrupted(first, kind), others, OFFICIAL["flickr8k"][kind], EVERY)


@pytest.mark.skipif(
    not (METRIC_CHECK / "known_scores.json").is_file(),
    reason="CAPTIONER_JAX_METRIC_CHECK names no folder with known_scores.json",
)
def test_published_scores_of_a_captioner():
    known, results, truth = (
        json.loads((METRIC_CHECK / name).read_text())
        for name in ("known_scores.json", "results_973.json", "refs_973.json")
    )
    captions = {}
    for annotation in truth["annotations"]:
        captions.setdefault(annotation["image_id"], []).append(words(annotation["caption"]))
    candidates = [words(result["caption"]) for result in results]
    references = [captions[result["image_id"]] for result in results]
    total = bleu_counts(candidates, references).total()
    assert counts_of(total) == known["bleu_counts"]
    scores = [*bleu(total), rouge_l(candidates, references).mean(), cider_d(candidates, references).mean()]
    names = ("Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "ROUGE_L", "CIDEr")
    assert [round(float(score), 3) for score in scores] == [known[name] for name in names]
