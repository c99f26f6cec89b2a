r"""What each word of a caption rests on, cell by cell: four answers, of which only the last changes the image.

    attention   how much the heads looked at a cell, in the mean
    rollout     how much of a cell reaches the word through all layers, if heads mix by their weights
    gradient    the same, of the weights that raise the word's logit
    occlusion   what the word's log-probability loses without the cell

All begin at the memory. A cell of an encoder has seen more of the image than its own place (its receptive field; all of
it in a ViT), and none of these looks into the encoder.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from captioner_jax.explain.reading import Retelling, retell
from captioner_jax.generation.writing import Images, Untrained
from captioner_jax.model.fusion import Looks
from captioner_jax.model.names import Parameters

# Occlusions computed at a time.
TOGETHER = 16


class Evidence(NamedTuple):
    """Of each token, a map over the cells. Those of attention and rollout are shares; occlusion is in nats."""

    attention: Float[Array, "B T y x"]
    rollout: Float[Array, "B T y x"]
    gradient: Float[Array, "B T y x"]
    occlusion: Float[Array, "B T y x"]


def make_evidence(captioner: Untrained) -> Callable[[Parameters, Images, Int[ArrayLike, "B T"]], Evidence]:
    """A jitted function of parameters, pixels or cells, and each image's caption as tokens, END and PAD included."""

    @jax.jit
    def evidence(parameters: Parameters, images: Images, tokens: Int[ArrayLike, "B T"]) -> Evidence:
        retelling = retell(captioner, parameters, images, tokens)
        _, looks = retelling.logits()
        maps = mean_attention(looks), rollout(looks), gradient_weighted(retelling), occlusion(retelling)
        return Evidence(*map(retelling.placed, maps))

    return evidence


def mean_attention(looks: list[Looks]) -> Float[Array, "B T S"]:
    """The mean of all layers' heads."""
    return jnp.stack([layer.cells for layer in looks]).mean((0, 2))


def rollout(looks: list[Looks]) -> Float[Array, "B T S"]:
    r"""$$\tilde A_l = \tfrac12 (A_l + I)\, \tilde A_{l-1}$$ (Abnar and Zuidema 2020, equation 1), over [F; T].

    Abnar and Zuidema have one sequence and one attention a layer. Here the sequence is the cells followed by the words,
    U = S + T positions, and each attention sublayer is a step: words at words, then words at cells, in which cells stay
    as they are; or one at both, in which cells look at each other. A is the mean of the heads, and I the residual
    connection. Rows of the product are distributions: what falls on cells is returned, what falls on words is the rest.
    """
    words, cells = looks[0].cells.shape[-2:]
    identity = jnp.eye(cells + words)[None]
    steps = _steps(jax.tree.map(lambda shares: shares.mean(1), looks), still=1.0)
    flow = functools.reduce(lambda flow, step: (step + identity) / 2 @ flow, steps, identity)
    return flow[:, cells:, :cells]


def gradient_weighted(retelling: Retelling) -> Float[Array, "B T S"]:
    r"""$$\bar A = \mathrm{E}_h\left[(\nabla A \odot A)^+\right], \qquad R \leftarrow R + \bar A R$$

    Chefer et al. 2021, "Generic Attention-model Explainability", equations 5 and 6, over [F; T] as in `rollout`; the
    derivative is that of the word's logit. For cross-attention their equation 10 multiplies by the transposed relevance
    among words besides; that is left out, since in a causal decoder it credits words with what later ones looked at.
    """
    cells, words = retelling.memory.shape[1], retelling.tokens.shape[1]
    identity = jnp.eye(cells + words)[None]
    untouched = jax.tree.map(
        lambda shares: jnp.zeros(shares.shape, shares.dtype), jax.eval_shape(lambda: retelling.logits()[1])
    )

    def nudged(nudges: list[Looks]) -> tuple[Float[Array, "B T"], list[Looks]]:
        logits, looks = retelling.logits(nudges=nudges)
        return retelling.of_tokens(logits), looks

    logits, derivative, looks = jax.vjp(nudged, untouched, has_aux=True)

    def of_word(t: Int[Array, ""]) -> Float[Array, "B S"]:
        (gradients,) = derivative(jnp.zeros_like(logits).at[:, t].set(1.0))
        raising = jax.tree.map(lambda shares, by: jax.nn.relu(shares * by).mean(1), looks, gradients)
        steps = _steps(raising, still=0.0)
        relevance = functools.reduce(lambda before, step: before + step @ before, steps, identity)
        return relevance[:, cells + t, :cells]

    return jnp.moveaxis(jax.lax.map(of_word, jnp.arange(words)), 0, 1)


def occlusion(retelling: Retelling) -> Float[Array, "B T S"]:
    r"""$$\log p(w_t \mid \ldots, F) - \log p(w_t \mid \ldots, F \setminus \{f_s\})$$ in nats, of each token and cell.

    Leave one out: the cell is looked at by no head of any layer. (Zeiler and Fergus 2014, section 4.2, grey a patch.)
    The only cell of a grid cannot be left out, and loses nothing.
    """
    whole, cells = retelling.log_p(), retelling.memory.shape[1]

    def lost(s: Int[Array, ""]) -> Float[Array, "B T"]:
        is_cell = jnp.broadcast_to(jnp.arange(cells) != s, retelling.memory.shape[:2])
        return whole - retelling.log_p(is_cell)

    return jnp.moveaxis(jax.lax.map(lost, jnp.arange(cells), batch_size=min(TOGETHER, cells)), 0, -1)


def _steps(layers: list[Looks], still: float) -> list[Float[Array, "B U U"]]:
    """Each attention sublayer, its heads taken together, as weights over [F; T]; cells that look at nothing have
    `still` for themselves."""
    batch, _, count = layers[0].cells.shape
    staying = still * jnp.broadcast_to(jnp.eye(count), (batch, count, count))
    steps = []
    for words, cells, among in layers:
        if among is None:
            steps += [_joint(staying, jnp.zeros_like(cells), words), _joint(staying, cells, jnp.zeros_like(words))]
        else:
            steps += [_joint(among, cells, words)]
    return steps


def _joint(
    among: Float[Array, "B S S"], cells: Float[Array, "B T S"], words: Float[Array, "B T T"]
) -> Float[Array, "B U U"]:
    """[[among, 0], [cells, words]]"""
    top = jnp.concatenate([among, jnp.zeros_like(cells).swapaxes(1, 2)], axis=2)
    return jnp.concatenate([top, jnp.concatenate([cells, words], axis=2)], axis=1)
