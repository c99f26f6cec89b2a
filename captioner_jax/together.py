"""One captioner, or several that write with one voice, as evaluation wants them: what they see, lose and write."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from captioner_jax.bundle import Bundle, check_alike, photographs_of
from captioner_jax.config import Precision
from captioner_jax.data.features import make_sight
from captioner_jax.data.pipeline import Batch
from captioner_jax.devices import everywhere, over_images, sums_over_images
from captioner_jax.generation.consensus import by_consensus, check_comparable
from captioner_jax.generation.ensemble import Ensemble, Voice, mean_probability
from captioner_jax.generation.neighbours import Index, index, near
from captioner_jax.generation.search import Found, beam_search, different, greedy, sample_evenly
from captioner_jax.generation.writing import Images, halves, image_keys, ready
from captioner_jax.model.captioner import Captioner
from captioner_jax.model.names import Parameters
from captioner_jax.text.special import PAD
from captioner_jax.training.loss import masked_sum, token_losses

Seen = Sequence[Float[Array, "B y x C"]]


class Known(NamedTuple):
    """What captioners know: their parameters, and the photographs that they keep, where these are asked for."""

    parameters: Sequence[Parameters]
    photographs: Sequence[Index]


class Together(NamedTuple):
    """Functions of all that captioners know, and of batches in which what each sees takes the images' place."""

    known: Known
    sight: Callable[[Known, Images], Seen]
    loss_sums: Callable[[Known, Batch], tuple[Float[Array, ""], Float[Array, ""]]]
    write: Callable[[Known, Batch], Found]


def together(
    bundles: Sequence[Bundle],
    *,
    beams: int,
    consensus: int = 0,
    neighbours: int = 0,
    precision: Precision = "float32",
) -> Together:
    """Captions are the likeliest that a beam finds or, with `consensus`, the most like so many that are drawn, for each
    image by its number, and as much like those of so many `neighbours`. Nothing else is asked of them.

    All is computed in `precision`, as programs that write do it (`writing.ready`). Raises UserError for captioners of
    unlike vocabularies or sizes of image, where captions are too long to be compared, and where there are no
    photographs to find neighbours among.
    """
    check_alike(bundles)
    graphdefs, parameters = zip(*(ready(one.graphdef, one.parameters, precision) for one in bundles), strict=True)
    sights = [make_sight(graphdef, one.preprocessing) for graphdef, one in zip(graphdefs, bundles, strict=True)]
    length = min(one.max_length for one in bundles)
    check_comparable(consensus, length)
    photographs = [index(kept) for kept in photographs_of(bundles, neighbours)]

    def captioners(known: Known) -> list[Captioner]:
        return [nnx.merge(graphdef, its) for graphdef, its in zip(graphdefs, known.parameters, strict=True)]

    def sight(known: Known, images: Images) -> Seen:
        return [see(its, images) for see, its in zip(sights, known.parameters, strict=True)]

    def loss_sums(known: Known, batch: Batch) -> tuple[Float[Array, ""], Float[Array, ""]]:
        seen: Any = batch.images
        return ensemble_loss(captioners(known), seen, jnp.asarray(batch.tokens))

    def write(known: Known, batch: Batch) -> Found:
        seen: Any = batch.images
        ensemble = Ensemble([Voice.of(one, cells) for one, cells in zip(captioners(known), seen, strict=True)])
        found = greedy(ensemble, length) if beams == 1 else beam_search(ensemble, length, beams)
        if consensus:
            keys = image_keys(halves(0), jnp.asarray(batch.numbers).astype(jnp.uint32))
            drawn = sample_evenly(ensemble, length, consensus, keys)
            similar = near(ensemble, known.photographs, neighbours)
            found = different(by_consensus(found, drawn, similar, bundles[0].tokenizer.most_frequent), 1)
        return found

    known = everywhere(Known(parameters, photographs))
    return Together(known, sight, sums_over_images(loss_sums, whole=[0]), over_images(write, whole=[0]))


def ensemble_loss(
    captioners: Sequence[Captioner], seen: Seen, tokens: Int[Array, "B G U"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    r"""The sum over words of $$-\log \frac{1}{M} \sum_m p_m(w \mid \ldots)$$ in nats, and their number."""
    tokens = tokens.reshape(-1, tokens.shape[-1])
    inputs, targets = tokens[:, :-1], tokens[:, 1:]

    def losses(captioner: Captioner, cells: Float[Array, "B y x C"]) -> Float[Array, "_ T"]:
        decoder = captioner.decoder
        return token_losses(decoder.all_logits(decoder.read(inputs, inputs != PAD, captioner.memory(cells))), targets)

    log_p = [-losses(one, cells) for one, cells in zip(captioners, seen, strict=True)]
    return masked_sum(-mean_probability(log_p), targets != PAD)
