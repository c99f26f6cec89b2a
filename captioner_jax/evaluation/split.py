"""How well a captioner does on a split: its loss, what it writes, and how much of that is true."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
import tqdm

from captioner_jax.config import DataConfig
from captioner_jax.data.pipeline import Batch, evaluation_batches
from captioner_jax.data.shapes.scene import Scene
from captioner_jax.data.shapes.truth import Verdict, judge
from captioner_jax.data.source import Example, Source
from captioner_jax.data.views import Views
from captioner_jax.devices import even_rows
from captioner_jax.errors import UserError
from captioner_jax.evaluation.report import quick_scores
from captioner_jax.generation.search import Found
from captioner_jax.text.special import END
from captioner_jax.text.tokenizer import Tokenizer

Its = TypeVar("Its")
"""The parameters of a captioner, or of several."""


class Written(NamedTuple):
    """What was written of an example, and how that stands to its facts (None where it has none)."""

    example: Example
    caption: str
    truncated: bool
    """It came to no end within the greatest length."""
    verdict: Verdict | None


class Scores(NamedTuple):
    """`values` has `loss` (nats a token), `bleu_4` and `cider_d`.

    For scenes with facts also `true` and `complete`, shares of the captions.
    """

    values: dict[str, float]
    written: list[Written]


def score_split(
    source: Source,
    parameters: Its,
    tokenizer: Tokenizer,
    data: DataConfig,
    *,
    batch_size: int,
    sight: Callable[[Its, Any], Any],
    loss_sums: Callable[[Its, Batch], tuple[Any, Any]],
    write: Callable[[Its, Batch], Found],
    images: int | None = None,
    views: Views | None = None,
    shown: int = 0,
    check: Callable[[], None] = lambda: None,
) -> Scores:
    """Scores of the first `images` of a split, or of all. Raises UserError where none of them can be used.

    `check` is called before each batch, and may raise what ends this early.

    Each image is seen once, both for the loss and for what is written; it is as `views` shows it, or pixels. The files
    of the first `shown` are kept with what is written of them, and not those of a whole split.
    """
    total = words = 0.0
    written: list[Written] = []
    rows = even_rows(batch_size)
    batches = evaluation_batches(source, data, tokenizer, batch_size=rows, images=images, views=views)
    for examples, batch in tqdm.tqdm(batches, "scoring", unit="batch", leave=False, disable=None):
        check()
        batch = batch._replace(images=sight(parameters, batch.images))
        found = write(parameters, batch)
        loss, count = loss_sums(parameters, batch)
        tokens = np.asarray(found.tokens)[:, 0]
        total, words = total + float(loss), words + float(count)
        for example, ids, usable in zip(examples, tokens, batch.usable, strict=False):
            if usable:
                caption = tokenizer.decode(ids)
                example = example if len(written) < shown else example._replace(image=b"")
                written.append(Written(example, caption, END not in ids, _verdict(caption, example)))
    if not written:
        raise UserError(f"none of the {len(source) if images is None else images} images to be scored can be used")
    values = {"loss": total / max(words, 1)}
    values |= quick_scores([one.caption for one in written], [one.example.captions for one in written])
    verdicts = [one.verdict for one in written if one.verdict is not None]
    if verdicts:
        values["true"] = sum(verdict.true for verdict in verdicts) / len(verdicts)
        values["complete"] = sum(verdict.complete for verdict in verdicts) / len(verdicts)
    return Scores(values, written)


def _verdict(caption: str, example: Example) -> Verdict | None:
    return None if example.facts is None else judge(caption, Scene.from_json(example.facts))
