"""How long scoring takes here and in the official COCO caption evaluation, on the same synthetic captions.

    pip install pycocoevalcap && python benchmarks/scores.py --images 5000 --repetitions 5

Both score the same words in one process, in turn; medians are told. Tokenisation is left out, and so is Java.
"""

import argparse
import contextlib
import io
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rows import Rows

sys.path.insert(0, str(Path(__file__).parents[1]))
from captioner_jax.evaluation.bleu import bleu, bleu_counts
from captioner_jax.evaluation.bootstrap import OfImages, score_intervals
from captioner_jax.evaluation.cider import cider, cider_d
from captioner_jax.evaluation.rouge import rouge_l

REFERENCES, TABLE = 5, "Scores"


def made(images: int, seed: int = 0) -> tuple[list[list[str]], list[list[list[str]]]]:
    """Candidates and references of 7 to 16 words whose frequencies fall like people's, some of them an image's own."""
    rng = random.Random(seed)
    vocabulary = [f"w{int(rng.paretovariate(0.7))}" for _ in range(20_000)]
    candidates, references = [], []
    for _ in range(images):
        scene = rng.choices(vocabulary, k=8)
        phrases = [[rng.choice(scene), rng.choice(vocabulary)] for _ in range(10)]
        *told, written = (sum(rng.choices(phrases, k=rng.randint(3, 7)), ["a"]) for _ in range(REFERENCES + 1))
        candidates.append(written)
        references.append(told)
    return candidates, references


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        run()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description="Times of scoring, here and officially.")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--json", type=Path, help="a file for the results as data")
    told = parser.parse_args()
    rows = Rows(told.json)
    try:
        from pycocoevalcap.bleu.bleu import Bleu
        from pycocoevalcap.cider.cider import Cider
        from pycocoevalcap.rouge.rouge import Rouge
    except ImportError:
        rows.leave_out("the official evaluation is not installed here: pip install pycocoevalcap")

    candidates, references = made(told.images)
    result = {i: [" ".join(words)] for i, words in enumerate(candidates)}
    truth = {i: [" ".join(words) for words in captions] for i, captions in enumerate(references)}
    pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "BLEU-1..4": (
            lambda: bleu(bleu_counts(candidates, references).total()),
            lambda: Bleu(4).compute_score(truth, result),
        ),
        "ROUGE-L": (lambda: rouge_l(candidates, references), lambda: Rouge().compute_score(truth, result)),
        "CIDEr-D": (lambda: cider_d(candidates, references), lambda: Cider().compute_score(truth, result)),
    }
    rows.note(f"{told.images} images, {REFERENCES} references each; median of {told.repetitions}, seconds")
    rows.note(f"Python {platform.python_version()}, NumPy {np.__version__}")
    print(f"\n{'':12}{'here':>8}{'official':>10}{'ratio':>8}")
    sums = np.zeros(2)
    for name, both in pairs.items():
        times = [[seconds(run) for run in both] for _ in range(told.repetitions)]
        here, official = (statistics.median(column) for column in zip(*times, strict=True))
        sums += here, official
        tell(name, here, official, rows)
    tell("all three", *sums, rows)
    counts, rouge = bleu_counts(candidates, references), rouge_l(candidates, references)
    d = cider_d(candidates, references)
    alone = {
        "CIDEr": lambda: cider(candidates, references),
        "bootstrap, 1,000 resamples": lambda: score_intervals(OfImages(counts, rouge, d)),
    }
    print()
    for name, run in alone.items():
        here = statistics.median(seconds(run) for _ in range(told.repetitions))
        print(f"{name}: {here:.2f}")
        rows.row(TABLE, name, "captioner_jax", {"seconds": here})


def tell(name: str, here: float, official: float, rows: Rows) -> None:
    print(f"{name:12}{here:8.2f}{official:10.2f}{official / here:8.1f}")
    rows.row(TABLE, name, "captioner_jax", {"seconds": here})
    rows.row(TABLE, name, "pycocoevalcap", {"seconds": official}, ratio=official / here)


if __name__ == "__main__":
    main()
