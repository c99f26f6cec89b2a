"""Looks at a captioner while it trains: scores, captions beside their references, the best one kept as a directory."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from flax import nnx

from captioner_jax.bundle import Bundle
from captioner_jax.config import Config, Criterion, EvaluationConfig
from captioner_jax.data.features import make_sight
from captioner_jax.data.images import Preprocessing
from captioner_jax.data.source import Source
from captioner_jax.data.views import Views
from captioner_jax.devices import everywhere
from captioner_jax.errors import UserError
from captioner_jax.evaluation.split import Scores, Written, score_split
from captioner_jax.generation.writing import make_writer
from captioner_jax.model.captioner import Captioner
from captioner_jax.model.names import Parameters
from captioner_jax.printable import printable
from captioner_jax.text.tokenizer import Tokenizer
from captioner_jax.training.step import make_evaluation_step


class Examiner:
    """Everything is compiled once; parameters come and go."""

    def __init__(
        self,
        config: Config,
        graphdef: nnx.GraphDef[Captioner],
        preprocessing: Preprocessing,
        tokenizer: Tokenizer,
        beams: int = 1,
        history: Mapping[str, Any] | None = None,
    ):
        """`history` is to be told with the captioner (`Beginning`)."""
        self.config = config
        self.history = history or {}
        self.preprocessing = preprocessing
        self.tokenizer = tokenizer
        self.sight = make_sight(graphdef, preprocessing)
        self.loss_sums = make_evaluation_step(graphdef, preprocessing)
        write = make_writer(graphdef, preprocessing, length=config.data.max_length, beams=beams)
        self.write = lambda parameters, batch: write(parameters, batch.images)

    def score(
        self,
        splits: dict[str, Source],
        parameters: Parameters,
        images: int | None,
        views: Mapping[str, Views] | None = None,
        check: Callable[[], None] = lambda: None,
    ) -> dict[str, Scores]:
        """The scores of the first `images` of each split, or of all; as `views` shows a split where it has such.

        `check` is called before each batch, and may raise what ends this early.
        """
        parameters = everywhere(parameters)
        return {
            name: score_split(
                source,
                parameters,
                self.tokenizer,
                self.config.data,
                batch_size=self.config.evaluation.batch_size,
                sight=self.sight,
                loss_sums=self.loss_sums,
                write=self.write,
                images=images,
                views=(views or {}).get(name),
                shown=self.config.evaluation.examples,
                check=check,
            )
            for name, source in splits.items()
        }

    def keep(self, parameters: Parameters, scores: dict[str, float], step: int) -> None:
        """The captioner of this moment becomes the one in the run's folder."""
        places = dict.fromkeys(("path", "data_dir", "cache", "features"))  # no business of others
        tokenizer = "words" if self.tokenizer.by_words else "bpe"  # as one of pieces of words is called, too
        data = dataclasses.asdict(dataclasses.replace(self.config.data, tokenizer=tokenizer, **places))
        if self.config.train.start is not None:  # whose words these are
            del data["min_count"], data["vocabulary"]
        training = {"run": self.config.name, "step": step, "data": data, **self.history}
        encoder = dataclasses.replace(self.config.model.encoder, weights=None)
        Bundle(
            model=dataclasses.replace(self.config.model, encoder=encoder),
            preprocessing=self.preprocessing,
            max_length=self.config.data.max_length,
            tokenizer=self.tokenizer,
            parameters=parameters,
            scores=scores,
            training=training,
        ).save(self.config.folder / "captioner")


def values(scores: dict[str, Scores]) -> dict[str, float]:
    """All scores of all splits by one name each, such as validation/loss."""
    return {f"{split}/{name}": value for split, of in scores.items() for name, value in of.values.items()}


def check_best(validation: Source, how: EvaluationConfig) -> None:
    """Raises UserError where captions of these images cannot be judged in this way."""
    best, images = how.best, min(how.images, len(validation))
    if best == "cider_d" and images < 2:
        raise UserError(
            "evaluation.best: by CIDEr-D every caption of a single image is worth nothing, and there is "
            f"{images} validation image to judge by; take loss, or more images"
        )
    if best == "true" and validation[0].facts is None:
        raise UserError("evaluation.best: nobody knows what is true of these images; take cider_d or loss")


def worth(scores: Scores, best: Criterion) -> float:
    """What decides whether a captioner is kept: the greater the better."""
    return -scores.values["loss"] if best == "loss" else scores.values[best]


def show(scores: dict[str, Scores], examples: int) -> None:
    """Prints the scores, and the first captions of each split beside a reference; a * marks what is not true."""
    for split, of in scores.items():
        print(f"  {split}: " + "  ".join(f"{name} {value:.3f}" for name, value in of.values.items()))
        for one in of.written[:examples]:
            print(f"    {_mark(one)} {printable(one.caption) or '(nothing)'}")
            print(f"        for: {printable(one.example.captions[0])}", flush=True)


def _mark(one: Written) -> str:
    return "*" if one.verdict is not None and not one.verdict.true else " "
