"""Captioners that differ in one equation, trained alike on drawn scenes from the same seeds, side by side."""

import dataclasses
import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import jax
import numpy as np
import tyro
from annotated_types import MinLen
from flax import nnx

from captioner_jax import captioning
from captioner_jax.bundle import Bundle
from captioner_jax.compilation import keep_compiled
from captioner_jax.config import Config, Positive, Seed, checked, from_toml
from captioner_jax.data.images import Preprocessing
from captioner_jax.data.load import load
from captioner_jax.data.pipeline import training_batches
from captioner_jax.data.source import DataSet, Example
from captioner_jax.data.told import Told
from captioner_jax.errors import UserError, for_people
from captioner_jax.generation.settings import Generation
from captioner_jax.model.captioner import Captioner
from captioner_jax.platforms import leave_out_absent_tpus
from captioner_jax.showing import show
from captioner_jax.text.tokenizer import Tokenizer
from captioner_jax.training.examiner import Examiner, values
from captioner_jax.training.optimizer import make_optimizer
from captioner_jax.training.step import CrossEntropy, first_state, make_train_step

RECIPE = Path(__file__).parent.parent / "configs" / "shapes.toml"


@dataclass(frozen=True)
class Budget:
    """What each captioner is given."""

    steps: Positive = 1500
    """Updates of the parameters."""
    seeds: Annotated[tuple[Seed, ...], MinLen(1)] = (0, 1, 2)
    """One run of each captioner for each."""
    images: Positive = 500
    """Validation scenes that each is scored on, and as many with held-out combinations."""
    config: Path = RECIPE
    """The recipe, but for its steps and seed."""
    looks: Path | None = None
    """A folder for where heads look: KIND.png and KIND.html, of a validation scene and each captioner's last seed."""


@dataclass(frozen=True)
class Learned(Bundle):
    """What a captioner of some kind has learned: `captioning.Captioner` writes with it, and explains what it writes."""

    kind: type[Captioner] = Captioner

    @functools.cached_property
    def graphdef(self) -> nnx.GraphDef[Captioner]:
        return nnx.graphdef(nnx.eval_shape(lambda: self.kind(self.model, len(self.tokenizer), rngs=nnx.Rngs(0))))

    def save(self, directory: Path) -> None:
        """Raises TypeError: a directory does not tell the kind, and would be read as that of a plain captioner."""
        raise TypeError(f"a {self.kind.__name__} cannot be kept as a captioner's directory, which tells no kind")


class Run(NamedTuple):
    """What came of one training run."""

    scores: dict[str, float]
    parameters: int
    milliseconds: float
    """A step took, with the machine as it was."""
    learned: Learned


def compare(variants: Sequence[type[Captioner]], arguments: list[str]) -> int:
    """Trains `Captioner` and its variants in turn, and prints a table of their scores; the exit code of a program.

    A variant is a subclass that takes what `Captioner` takes: configuration, vocabulary, and random numbers.
    """
    return for_people(functools.partial(_compare, variants))(arguments)


def _compare(variants: Sequence[type[Captioner]], arguments: list[str]) -> int:
    leave_out_absent_tpus()
    keep_compiled()
    names = " and ".join(variant.__name__ for variant in variants)
    budget = checked(tyro.cli(Budget, args=arguments, description=f"Captioner beside {names}, on drawn scenes."))
    recipe = from_toml(budget.config)
    _check(recipe, budget.config)
    if budget.looks is not None:
        _make(budget.looks)
    data = load(recipe.data)
    captions = list(data.train.captions())
    tokenizer = Tokenizer.train(captions, recipe.data)
    told = Told.of(captions, tokenizer)
    print("| | seed | loss | loss, held out | % true | % true, held out | parameters | ms a step |")
    print("|---|---|---|---|---|---|---|---|")
    for kind in (Captioner, *variants):
        runs = []
        for seed in budget.seeds:
            settings = dataclasses.replace(recipe.train, steps=budget.steps, seed=seed)
            config = dataclasses.replace(recipe, train=settings)
            runs.append(train(kind, config, data, tokenizer, told, budget.images))
            print(row(kind.__name__, str(seed), runs[-1:]), flush=True)
        print(row(kind.__name__, "mean", runs), flush=True)
        if budget.looks is not None:
            show_looks(runs[-1].learned, data.validation["validation"][0], budget.looks)
    return 0


def _make(folder: Path) -> None:
    """Raises UserError where there can be no such folder."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror or error}") from error


def _check(recipe: Config, file: Path) -> None:
    """Raises UserError for what the captioners would not be trained by."""
    if recipe.data.source != "shapes" or recipe.model.fusion != "cross":
        raise UserError(f"{file}: captioners are compared on drawn scenes (shapes), with fusion cross")
    learns = {"start": None, "objective": "cross_entropy", "encoder_frozen": False, "encoder_from": 0}
    others = [f"train.{name}" for name, value in learns.items() if getattr(recipe.train, name) != value]
    others += ["data.features"] * (recipe.data.features is not None) + ["teacher"] * recipe.teacher.is_there
    others += ["model.encoder.weights"] * (recipe.model.encoder.weights is not None)
    if others:
        raise UserError(f"{file}: captioners are compared from scratch, without {', '.join(others)}: leave these out")


def train(kind: type[Captioner], config: Config, data: DataSet, tokenizer: Tokenizer, told: Told, images: int) -> Run:
    """A captioner of this kind, from its random beginning to its scores."""
    captioner = kind(config.model, len(tokenizer), rngs=nnx.Rngs(config.train.seed))
    graphdef, variables = nnx.split(captioner)
    optimizer, preprocessing = make_optimizer(config.train), Preprocessing(config.data.image_size)
    state = first_state(nnx.to_pure_dict(variables), optimizer, config.train)
    objective = CrossEntropy(config.train.label_smoothing)
    step = make_train_step(graphdef, optimizer, preprocessing, config.train, objective)
    batches = training_batches(data.train, told, config.data, config.train)
    state, _ = step(state, next(batches))  # compiles
    began = time.monotonic()
    for _ in range(1, config.train.steps):
        state, _ = step(state, next(batches))
    jax.block_until_ready(state)
    milliseconds = 1000 * (time.monotonic() - began) / max(1, config.train.steps - 1)
    examiner = Examiner(config, graphdef, preprocessing, tokenizer)
    scores = values(examiner.score(data.validation, state.best_guess, images))
    parameters = sum(x.size for x in jax.tree.leaves(state.parameters))
    seen = config.model, preprocessing, config.data.max_length, tokenizer
    return Run(scores, parameters, milliseconds, Learned(*seen, state.best_guess, scores, {}, kind=kind))


def show_looks(learned: Learned, scene: Example, folder: Path) -> None:
    """Writes where heads look as the scene is described: a sheet of their mean, and a page to explore each of them."""
    sheet, page = (folder / f"{learned.kind.__name__}.{ending}" for ending in ("png", "html"))
    show(captioning.Captioner(learned), scene.image, scene.name, Generation(), sheet, page)


def row(name: str, seed: str, runs: list[Run]) -> str:
    """A line of the table: the mean of these runs, and the median of their times."""
    loss, loss_held_out, true, true_held_out = (
        np.mean([run.scores[f"{split}/{score}"] for run in runs])
        for score in ("loss", "true")
        for split in ("validation", "validation_held_out")
    )
    milliseconds = np.median([run.milliseconds for run in runs])
    return (
        f"| {name} | {seed} | {loss:.3f} | {loss_held_out:.3f} | {100 * true:.1f} | {100 * true_held_out:.1f} "
        f"| {runs[0].parameters:,} | {milliseconds:.0f} |"
    )
