"""How far the maps of a captioner of drawn scenes can be believed, in three tables: pointing, faithfulness, sanity."""

import collections
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from captioner_jax.bundle import Bundle
from captioner_jax.data.images import open_image, to_square
from captioner_jax.data.shapes.scene import Scene
from captioner_jax.data.shapes.truth import judge
from captioner_jax.data.source import Source
from captioner_jax.errors import UserError
from captioner_jax.explain.evidence import Evidence, make_evidence
from captioner_jax.explain.faithfulness import make_areas
from captioner_jax.explain.pointing import Hits, Pointer, hits, pointers
from captioner_jax.explain.randomisation import rank_correlation, unlearned
from captioner_jax.explain.reading import make_reader
from captioner_jax.generation.writing import Untrained, make_writer

# Scenes at a time.
BATCH = 25


class Faith(NamedTuple):
    """Means over words that name things: areas under the curves of deletion and insertion."""

    deletion: float
    insertion: float


class Measured(NamedTuple):
    """Of maps by name."""

    scenes: int
    true: int
    """Captions that are, of so many scenes."""
    colours: int
    shapes: int
    """Words in them that name things, and that the figures are of."""
    hits: dict[str, Hits]
    faith: dict[str, Faith]
    sanity: dict[str, float]
    """Mean rank correlation with the maps of the same model before training."""


class _Written(NamedTuple):
    """A batch of scenes and their captions."""

    pixels: UInt8[np.ndarray, "B Y X 3"]
    scenes: list[Scene]
    tokens: Int[np.ndarray, "B T"]
    captions: list[str]

    def pointers(self, grid: tuple[int, int]) -> list[tuple[int, Pointer]]:
        """The words to be looked at, each with its row."""
        told = enumerate(zip(self.captions, self.scenes, strict=True))
        return [(row, one) for row, (caption, scene) in told for one in pointers(caption.split(), scene, grid)]


def measure(captioner: Bundle, scenes: Source, count: int, seed: int) -> Measured:
    """On the first `count` scenes of a split, with greedy captions; `seed` is that of random orders and weights.

    Raises UserError where no caption is true, and for a captioner that does not write word by word.
    """
    if not captioner.tokenizer.by_words:
        raise UserError("maps are judged word by word, and this captioner writes parts of words")
    untrained = Untrained(captioner.graphdef, captioner.preprocessing)
    read, evidence, areas = make_reader(untrained, 1), make_evidence(untrained), make_areas(untrained)
    random, rng = unlearned(captioner, seed), np.random.default_rng(seed)
    found: list[Pointer] = []
    true = 0
    maps, faith, sanity = (collections.defaultdict[str, list](list) for _ in range(3))
    for batch in _written(captioner, scenes, count):
        asked = batch.pixels, batch.tokens
        looks = np.asarray(read(captioner.parameters, *asked).looks)
        some = batch.pointers(looks.shape[-2:])
        true += sum(judge(*told).true for told in zip(batch.captions, batch.scenes, strict=True))
        if not some:
            continue
        found += [pointer for _, pointer in some]
        at = tuple(np.array([(row, one.place) for row, one in some], int).reshape(-1, 2).T)
        whole = _whole(looks, evidence(captioner.parameters, *asked))
        for name, its in (_by_head(looks) | whole).items():
            maps[name] += [*its[at]]
        for name, its in (whole | {"random order": rng.random(whole["occlusion"].shape, np.float32)}).items():
            faith[name] += [*np.stack(areas(captioner.parameters, *asked, its), axis=-1)[at]]
        blank = _whole(np.asarray(read(random, *asked).looks), evidence(random, *asked))
        for name, its in whole.items():
            pair = (x[at].reshape(len(some), -1) for x in (its, blank[name]))
            sanity[name] += [*rank_correlation(*pair)]
    if not found:
        raise UserError(
            f"of {count} captions none is true, so there are no words of which it is known what they name: this is for "
            "captioners of drawn scenes"
        )
    return Measured(
        scenes=count,
        true=true,
        colours=sum(one.is_colour for one in found),
        shapes=sum(not one.is_colour for one in found),
        hits=hits(found, maps),
        faith={name: Faith(*map(float, np.mean(its, axis=0))) for name, its in faith.items()},
        sanity={name: float(np.mean(its)) for name, its in sanity.items()},
    )


def _by_head(looks: Float[np.ndarray, "B L N T y x"]) -> dict[str, np.ndarray]:
    """Of each head of each layer, the maps [B T y x]."""
    places = np.ndindex(looks.shape[1:3])
    return {f"layer {layer + 1}, head {head + 1}": looks[:, layer, head] for layer, head in places}


def _whole(looks: Float[np.ndarray, "B L N T y x"], evidence: Evidence) -> dict[str, np.ndarray]:
    """Of each layer, the mean of its heads, and of all layers the four answers of `explain.evidence`."""
    layers = range(looks.shape[1])
    return {f"layer {layer + 1}, mean of heads": looks[:, layer].mean(1) for layer in layers} | {
        "all layers, mean of heads": np.asarray(evidence.attention),
        "rollout": np.asarray(evidence.rollout),
        "gradient-weighted": np.asarray(evidence.gradient),
        "occlusion": np.asarray(evidence.occlusion),
    }


def _written(captioner: Bundle, scenes: Source, count: int) -> Iterator[_Written]:
    size, framing = captioner.preprocessing.image_size, captioner.preprocessing.framing
    write = make_writer(captioner.graphdef, captioner.preprocessing, length=captioner.max_length, beams=1)
    for first in range(0, count, BATCH):
        examples = [scenes[i] for i in range(first, min(first + BATCH, count))]
        pixels = np.stack([to_square(open_image(example.image, size), size, framing) for example in examples])
        tokens = np.asarray(write(captioner.parameters, pixels).tokens)[:, 0]
        facts = [Scene.from_json(example.facts or "") for example in examples]
        yield _Written(pixels, facts, tokens, [captioner.tokenizer.decode(row) for row in tokens])


def tables(measured: Measured) -> str:
    """As Markdown."""
    named = f"{measured.colours} colour words and {measured.shapes} shape words"
    return "\n\n".join(
        [
            f"{measured.true} of {measured.scenes} captions are true; {named} in them",
            _table(measured.hits, "{:.1%}", "colour words", "shape words"),
            _table(measured.faith, "{:.3f}", "deletion", "insertion"),
            _table({name: [x] for name, x in measured.sanity.items()}, "{:.3f}", "likeness to random weights' maps"),
        ]
    )


def _table(rows: Mapping[str, Sequence[float | None]], form: str, *columns: str) -> str:
    head = [["map", *columns], ["---"] * (1 + len(columns))]
    told = lambda value: "none" if value is None else form.format(value)  # noqa: E731
    lines = [*head, *([name, *map(told, values)] for name, values in rows.items())]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
