"""Draws the book's figures from the package and from the code of the chapters themselves.

python -m bookbinding.figures [FOLDER]      default: docs/book/figures
"""

import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bookbinding.notebooks import notebook
from bookbinding.sources import ROOT
from captioner_jax.model.convnet import whitening_cosines
from captioner_jax.model.position import sinusoids
from captioner_jax.training.loss import token_losses

BOOK = ROOT / "docs" / "book"


def main(arguments: list[str]) -> None:
    """Each figure is written by its own name."""
    folder = Path(arguments[0]) if arguments else BOOK / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    matplotlib.use("agg")
    matplotlib.rcParams |= {"svg.hashsalt": "captioner_jax", "axes.spines.top": False, "axes.spines.right": False}
    for file, draw in FIGURES.items():
        figure = draw()
        figure.savefig(
            folder / file, dpi=110, bbox_inches="tight", metadata={"Date": None} if file.endswith("svg") else {}
        )
        pyplot.close(figure)
        print(folder / file)


def names_of(chapter: str) -> dict[str, Any]:
    """What a chapter's code leaves behind when it has run."""
    names: dict[str, Any] = {}
    for cell in notebook(BOOK / chapter).cells:
        if cell.cell_type == "code":
            exec(cell.source, names)
    return names


def stem() -> Figure:
    """The filters that the first convolution begins with."""
    filters = np.asarray(whitening_cosines(jax.random.key(0), (8, 8, 3, 64)))
    figure, grid = pyplot.subplots(4, 16, figsize=(9, 2.4))
    for axes, one in zip(grid.ravel(), filters.transpose(3, 0, 1, 2), strict=True):
        axes.imshow(0.5 + 0.5 * one / np.abs(one).max())
        axes.axis("off")
    return figure


def positions() -> Figure:
    """The encoding of each position, and the dot products of any two."""
    places = np.asarray(sinusoids(jnp.arange(32), 64))
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.4), width_ratios=(2, 1))
    left.imshow(places, cmap="RdBu", aspect="auto")
    left.set(xlabel="channel", ylabel="position")
    right.imshow(places @ places.T, cmap="viridis")
    right.set(xlabel="position", title="likeness of two positions")
    return figure


def smoothing() -> Figure:
    """How far the target's logit moves from the others, with and without smoothing."""
    vocabulary, steps = 8, 3000
    target = jnp.array([[0]])

    def descend(z, epsilon):
        z = z - jax.grad(lambda z: token_losses(z, target, epsilon).sum())(z)
        return z, z[0, 0, 0] - z[0, 0, 1]

    figure, axes = pyplot.subplots(figsize=(6, 3))
    for epsilon in (0.0, 0.1, 0.2):
        _, gaps = jax.lax.scan(lambda z, _, e=epsilon: descend(z, e), jnp.zeros((1, 1, vocabulary)), length=steps)
        axes.semilogx(np.arange(1, steps + 1), gaps, label=f"ε = {epsilon:g}")
    axes.set(xlabel="step", ylabel="target's logit above the others")
    axes.legend(frameon=False)
    return figure


def beam() -> Figure:
    """The toy's candidates of two steps: bold what a beam of two keeps, thin what it lets go."""
    names = names_of("10-beam-search.md")
    table, letters = names["TABLE"], {names["A"]: "a", names["B"]: "b", names["C"]: "c", names["END"]: "END"}
    figure, axes = pyplot.subplots(figsize=(7, 3.2))
    axes.axis("off")
    axes.text(0, 0, "START", ha="center", va="center")
    places, kept = {names["START"]: (0.0, 1.0)}, 2
    for depth, heights in enumerate(((2, 0, -2), (2.6, 2, 1.4, 0.6, 0, -0.6, -1.2)), 1):
        candidates = [(p * table[u, v], u, v) for u, (_, p) in places.items() for v in letters if table[u, v] * p > 0]
        candidates.sort(key=lambda candidate: (-places[candidate[1]][0], -candidate[0]))
        best = sorted(candidates, reverse=True)[:kept]
        after = {}
        for (p, u, v), y in zip(candidates, heights, strict=True):
            lives = (p, u, v) in best
            colour, width, weight = ("C0", 2.5, "bold") if lives else ("0.8", 1, "normal")
            axes.plot([depth - 0.8, depth - 0.22], [places[u][0], y], color=colour, lw=width)
            axes.text(depth, y, f"{letters[v]}  {p:.4g}", ha="center", va="center", weight=weight)
            if lives:
                after[v] = (float(y), p)
        places = after
    return figure


def attention_forms() -> Figure:
    """Rows: the moments and heads of chapter 13; columns: the picture and the words of its caption."""
    names = names_of("13-attention-forms.md")
    picture, readings, number = names["new_images"], names["readings"], 0
    caption = names["captions"][len(names["scenes"]) + number].split()
    shown = [0, 1, 3, 4]
    figure, grid = pyplot.subplots(2 * len(readings), 1 + len(shown), figsize=(7.2, 11.5))
    for pair, (step, reading) in zip(grid.reshape(len(readings), 2, -1), readings.items(), strict=True):
        for head, row in enumerate(pair):
            row[0].imshow(picture[number])
            row[0].set_ylabel(f"step {step}\nhead {head + 1}")
            for axes, word in zip(row[1:], shown, strict=True):
                look = np.asarray(reading.looks[number, 0, head, word])
                over(axes, picture[number], look)
    for axes, word in zip(grid[0, 1:], shown, strict=True):
        axes.set_title(caption[word])
    for axes in grid.ravel():
        axes.set(xticks=[], yticks=[])
    return figure


def over(axes: Axes, picture: np.ndarray, look: np.ndarray) -> None:
    """The picture, bright where it is looked at; the brightest cell is that of the greatest weight."""
    light = np.kron(look / look.max(), np.ones((8, 8)))[:, :, None]
    axes.imshow((picture / 255) * (0.15 + 0.85 * light))


FIGURES = {
    "stem.png": stem,
    "sinusoids.svg": positions,
    "smoothing.svg": smoothing,
    "beam.svg": beam,
    "attention_forms.png": attention_forms,
}

if __name__ == "__main__":
    main(sys.argv[1:])
