"""All that is said of a split's captions: scores with intervals, how varied and how sound they are, how it was done."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import captioner_jax
from captioner_jax.evaluation import java
from captioner_jax.evaluation.bleu import bleu, bleu_counts
from captioner_jax.evaluation.bootstrap import Interval, OfImages, score_differences, score_intervals
from captioner_jax.evaluation.cider import cider, cider_d
from captioner_jax.evaluation.diagnostics import Diagnostics, diagnose
from captioner_jax.evaluation.rouge import rouge_l
from captioner_jax.text import ptb

Both = tuple[list[list[str]], list[list[list[str]]]]
"""Captions, and the references of each, word by word."""
RESAMPLES = 1000
LEVEL = 0.95
HEADS = {
    **{f"bleu_{n}": f"BLEU-{n}" for n in range(1, 5)},
    **{"rouge_l": "ROUGE-L", "cider_d": "CIDEr-D", "cider": "CIDEr", "meteor": "METEOR", "spice": "SPICE"},
}
ABOUT = {
    "captions": "captions",
    "vocabulary": "different words",
    "distinct_1": "different words a word",
    "distinct_2": "different pairs a word",
    "mean_length": "words a caption",
    "copied": "copied from training",
    "bad_endings": "bad endings",
    "truncated": "cut at the greatest length",
}


@dataclasses.dataclass(frozen=True)
class Report:
    """`scores` by name, each with its interval; `others` without one, None where not computed."""

    scores: dict[str, Interval]
    others: dict[str, float | None]
    diagnostics: Diagnostics
    signature: str

    def to_json(self) -> dict[str, Any]:
        return {
            "scores": {name: interval._asdict() for name, interval in self.scores.items()} | self.others,
            "diagnostics": self.diagnostics._asdict(),
            "signature": self.signature,
        }

    def table(self) -> str:
        """For a terminal."""
        rows = [
            f"{HEADS[name]:<9} {score.estimate:7.4f}   {score.low:.4f} to {score.high:.4f}"
            for name, score in self.scores.items()
        ]
        rows += [
            f"{HEADS[name]:<9} " + (f"{value:7.4f}" if value is not None else f"not computed: {java.why_not()}")
            for name, value in self.others.items()
        ]
        rows += [
            f"{ABOUT[name]:<26} {value}" if isinstance(value, int) else f"{ABOUT[name]:<26} {value:.3f}"
            for name, value in self.diagnostics._asdict().items()
            if value is not None
        ]
        return "\n".join([*rows, self.signature])


def quick_scores(captions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """BLEU-4 and CIDEr-D, for a look in passing."""
    candidates, known = _cut(ptb.parts, captions, references)
    counts = bleu_counts(candidates, known).total()
    return {"bleu_4": float(bleu(counts)[-1]), "cider_d": float(cider_d(candidates, known).mean())}


def make_report(
    captions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    training: Iterable[str] | None = None,
    truncated: Sequence[bool] | None = None,
    searched: str = "unknown",
    split: str = "unknown",
) -> Report:
    """Of one caption an image and its references; `training` are captions it may have learned by heart.

    `searched` says how they were written, and `split` of which images, for the signature.
    """
    cut = _Cut.of(captions, references)
    scores = score_intervals(cut.of_images, resamples=RESAMPLES, level=LEVEL)
    plain = float(cider(*cut.parts).mean())
    learned = None if training is None else map(ptb.words, training)
    return Report(
        scores=scores,
        others={"cider": plain} | java.scores(*_joined(*cut.words)),
        diagnostics=diagnose(cut.words[0], learned, truncated),
        signature=signature(references, searched, split),
    )


def compare(captions: Sequence[str], others: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, Interval]:
    """By how much the scores of captions are greater than those of others of the same images."""
    one, other = (_Cut.of(some, references).of_images for some in (captions, others))
    return score_differences(one, other, resamples=RESAMPLES, level=LEVEL)


def comparison(differences: dict[str, Interval]) -> str:
    """For a terminal; a * marks those whose interval does not hold zero."""
    return "\n".join(
        f"{HEADS[name]:<9} {by.estimate:+7.4f}   {by.low:+.4f} to {by.high:+.4f}{' *' * (by.low > 0 or by.high < 0)}"
        for name, by in differences.items()
    )


def signature(references: Sequence[Sequence[str]], searched: str, split: str) -> str:
    """How scores were made, in a line that can be quoted with them (the idea is Post's, 2018, of SacreBLEU)."""
    counts = sorted({len(of_image) for of_image in references})
    each = str(counts[0]) if len(counts) == 1 else f"{counts[0]}-{counts[-1]}"
    return "|".join(
        [
            f"split:{split}",
            f"images:{len(references)}",
            f"refs:{each}",
            "tok:ptb-3.4.1",
            "cider-d:sigma6,df-of-refs",
            f"ci:bootstrap{RESAMPLES},{LEVEL:g}",
            f"search:{searched}",
            f"captioner_jax:{captioner_jax.__version__}",
        ]
    )


class _Cut(NamedTuple):
    """Captions and references as words; and for BLEU and CIDEr-D, for which the official tool cuts them once more at
    every blank."""

    words: Both
    parts: Both

    @staticmethod
    def of(captions: Sequence[str], references: Sequence[Sequence[str]]) -> "_Cut":
        return _Cut(_cut(ptb.words, captions, references), _cut(ptb.parts, captions, references))

    @property
    def of_images(self) -> OfImages:
        return OfImages(bleu_counts(*self.parts), rouge_l(*self.words), cider_d(*self.parts))


def _cut(into: Callable[[str], list[str]], captions: Sequence[str], references: Sequence[Sequence[str]]) -> Both:
    return [into(c) for c in captions], [[into(r) for r in of_image] for of_image in references]


def _joined(
    candidates: Sequence[Sequence[str]], references: Sequence[Sequence[Sequence[str]]]
) -> tuple[list[str], list[list[str]]]:
    return [" ".join(c) for c in candidates], [[" ".join(r) for r in of_image] for of_image in references]
