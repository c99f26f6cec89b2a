"""Writes official_scores.json: what the official COCO caption evaluation gives for the captions made here.

    python -m venv room && room/bin/pip install pycocoevalcap==1.2 numpy==2.4.6
    room/bin/python tests/evaluation/make_official_scores.py FLICKR8K_FOLDER

Needs Java (17.0.15) for the tokenizer of the Flickr8k part, of which only numbers are kept. Run by hand, not by CI. The
captions are drawn by `random.Random(seed).random()` alone, which Python promises to keep.
"""

import argparse
import contextlib
import io
import json
import random
from pathlib import Path

SYNTHETIC_SEED, CORRUPTION_SEED = 1, 2
EVERY = 50
"""Of Flickr8k the scores of every 50th image are kept."""

ADJECTIVES = ("red", "small", "young", "wet", "old", "tall")
NOUNS = (("dog", "puppy"), ("man", "person"), ("girl", "child"), ("boat", "ship"), ("horse", "pony"), ("car", "taxi"))
VERBS = (("runs", "races"), ("waits", "stands"), ("jumps", "leaps"), ("turns", "spins"))
PLACES = ("on the beach", "in the snow", "near a wall", "by the water", "at night", "over a log in the park")

Words = list[str]


class Dice:
    """Draws that no version of Python changes."""

    def __init__(self, seed: int):
        self.random = random.Random(seed).random

    def below(self, n: int) -> int:
        return int(self.random() * n)

    def one(self, options):
        return options[self.below(len(options))]

    def shuffled(self, words: Words) -> Words:
        keys = [self.random() for _ in words]
        return [words[i] for i in sorted(range(len(words)), key=keys.__getitem__)]


def sentence(scene: tuple[int, int, int, int], dice: Dice) -> Words:
    adjective, noun, verb, place = scene
    words = [dice.one(("a", "the", "one")), ADJECTIVES[adjective], dice.one(NOUNS[noun])]
    words += dice.one(([dice.one(VERBS[verb])], ["that", dice.one(VERBS[verb]), "and", dice.one(VERBS[dice.below(4)])]))
    return words + dice.one((PLACES[place].split(), [], [*PLACES[place].split(), "with", "a", *dice.one(NOUNS)]))


def corrupted(captions: list[Words], kind: str, seed: int = CORRUPTION_SEED) -> list[Words]:
    """Worse captions of one kind, made of the captions of all images."""
    dice = Dice(seed)
    everything = [word for words in captions for word in words]
    spoil = {
        "as written": lambda words, other: words,
        "shuffled": lambda words, other: dice.shuffled(words),
        "cut": lambda words, other: words[: dice.below(len(words) + 1)],
        "replaced": lambda words, other: [dice.one(everything) if dice.random() < 0.3 else word for word in words],
        "joined": lambda words, other: words[: len(words) // 2] + other[len(other) // 2 :],
        "of other images": lambda words, other: other,
        "empty": lambda words, other: [] if dice.random() < 0.3 else words,
        "one word": lambda words, other: [dice.one(words)] if words else [],
        "repeated": lambda words, other: words * dice.below(12),
        "one word often": lambda words, other: [dice.one(words)] * dice.below(30) if words else [],
    }[kind]
    return [spoil(words, captions[(i + 1) % len(captions)]) for i, words in enumerate(captions)]


KINDS = (
    "as written",
    "shuffled",
    "cut",
    "replaced",
    "joined",
    "of other images",
    "empty",
    "one word",
    "repeated",
    "one word often",
)


def synthetic(images: int = 300) -> tuple[list[Words], list[list[Words]]]:
    """Captions of all qualities, a tenth of each kind, and 2 to 6 references an image, 1 in 50 of them empty."""
    dice = Dice(SYNTHETIC_SEED)
    candidates, references = [], []
    for _ in range(images):
        scene = (dice.below(6), dice.below(6), dice.below(4), dice.below(6))
        references.append([sentence(scene, dice) if dice.below(50) else [] for _ in range(2 + dice.below(5))])
        candidates.append(sentence(scene, dice) if dice.below(4) else list(references[-1][0]))
    kinds = [corrupted(candidates, kind) for kind in KINDS]
    return [kinds[i % len(KINDS)][i] for i in range(images)], references


def official(candidates: list[Words], references: list[list[Words]], every: int = 1) -> dict:
    """The official scores: of the corpus, and of every so many images."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    result = {i: [" ".join(words)] for i, words in enumerate(candidates)}
    truth = {i: [" ".join(words) for words in captions] for i, captions in enumerate(references)}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        bleu, bleu_by_image = Bleu(4).compute_score(truth, result)
    rouge, rouge_by_image = Rouge().compute_score(truth, result)
    cider, cider_by_image = Cider().compute_score(truth, result)
    return {
        "bleu_counts": json.loads(printed.getvalue().splitlines()[0].replace("'", '"')),
        "Bleu": [float(x) for x in bleu],
        "ROUGE_L": float(rouge),
        "CIDEr": float(cider),
        "images": {
            "Bleu": [[float(x) for x in values[::every]] for values in bleu_by_image],
            "ROUGE_L": [float(x) for x in rouge_by_image[::every]],
            "CIDEr": [float(x) for x in cider_by_image[::every]],
        },
    }


def flickr8k_test_split(folder: Path) -> list[list[str]]:
    """The five captions of each image of the test split."""
    by_image: dict[str, list[str]] = {}
    for line in (folder / "Flickr8k.token.txt").read_text(encoding="utf-8").splitlines():
        name, _, caption = line.partition("\t")
        by_image.setdefault(name.partition("#")[0], []).append(caption)
    return [by_image[name] for name in (folder / "Flickr_8k.testImages.txt").read_text().split()]


def main() -> None:
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("flickr8k", type=Path, help="folder with Flickr8k.token.txt and Flickr_8k.testImages.txt")
    captions = flickr8k_test_split(parser.parse_args().flickr8k)
    plain = PTBTokenizer().tokenize({i: [{"caption": c} for c in five] for i, five in enumerate(captions)})
    words = [[caption.split() for caption in plain[i]] for i in range(len(captions))]
    first, others = [five[0] for five in words], [five[1:] for five in words]
    scores = {
        "synthetic": official(*synthetic()),
        "flickr8k": {kind: official(corrupted(first, kind), others, EVERY) for kind in KINDS},
    }
    Path(__file__).with_name("official_scores.json").write_text(json.dumps(scores, indent=None) + "\n")


if __name__ == "__main__":
    main()
