r"""Of several captions the one that is most like all that the captioner might say: minimum Bayes risk.

$$\arg\max_{c \in C} \frac{1}{N} \sum_{j=1}^{N} \mathrm{sim}(c, s_j), \qquad s_j \sim p(\cdot \mid \text{image})$$

Kumar and Byrne 2004, "Minimum Bayes-Risk Decoding for Statistical Machine Translation", with draws in place of the sum
over all captions as in Eikema and Aziz 2020, "Is MAP Decoding All You Need?". A search for the likeliest caption finds
one that may stand alone; this finds one that much of what is likely agrees with.

With what people wrote of similar photographs (generation/neighbours.py) the sum is over the even mixture

$$\frac{1}{2} \, p(\cdot \mid \text{image}) + \frac{1}{2} \, p_{near}(\cdot)$$

as Khandelwal et al. 2020, "Generalization through Memorization: Nearest Neighbor Language Models", equation 3, mix the
two for each word.

The similarity is a term of CIDEr-D's (Vedantam et al. 2015), from 0 to 1, with

$$\mathrm{idf}(w_1 \ldots w_n) = \sum_i \log \mathrm{rank}(w_i)$$

for log |I| / df, which no captioner keeps: the word of rank r stands about 1/r as often as the first (Zipf), n-grams as
often as if their words were independent, and vocabularies begin with the most frequent word; those of byte pairs with
the bytes, which count as the first pair does.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from captioner_jax.errors import UserError
from captioner_jax.generation.neighbours import Evidence
from captioner_jax.generation.search import Found
from captioner_jax.text.compiled_ngrams import LONGEST, ORDERS
from captioner_jax.text.likeness import likeness, norms
from captioner_jax.text.special import SPECIAL_TOKENS


def by_consensus(
    found: Found, drawn: Found, near: Evidence | None = None, most_frequent: int = len(SPECIAL_TOKENS)
) -> Found:
    """K captions an image, scored by how like they are to the N that were drawn for it, in the order that they had; and
    by as much to those of similar photographs, if they are given.

    From id `most_frequent` on the vocabulary stands by falling frequency. Dead ends keep minus infinity, and count for
    nothing among the draws.
    """
    counts = jnp.isfinite(drawn.log_p).astype(jnp.float32)
    shares = counts / jnp.maximum(counts.sum(-1, keepdims=True), 1)
    scores = _mean_likeness(found, Evidence(drawn.tokens, shares), most_frequent)
    if near is not None:
        scores = (scores + _mean_likeness(found, near, most_frequent)) / 2
    return found._replace(scores=jnp.where(jnp.isfinite(found.scores), scores, -jnp.inf))


def _mean_likeness(found: Found, others: Evidence, most_frequent: int) -> Float[Array, "B K"]:
    rare, others_rare = (idf(tokens, most_frequent) for tokens in (found.tokens, others.tokens))
    similar = likeness(found.tokens, others.tokens, rare, norms(others.tokens, others_rare))
    return (similar * others.weights[:, None]).sum(-1)


def check_comparable(consensus: int, length: int) -> None:
    """Raises UserError where captions of up to `length` tokens are to be compared, and are too long for that."""
    if consensus and length > LONGEST:
        raise UserError(f"consensus compares captions of up to {LONGEST} tokens, and these may have {length}")


def idf(tokens: Int[Array, "B K T"], most_frequent: int = len(SPECIAL_TOKENS)) -> list[Float[Array, "B K _"]]:
    """Of the n-grams that begin at each place, for n = 1 ... ORDERS; the end of a caption tells nothing by itself."""
    rank = jnp.maximum(tokens - most_frequent + 1, 1)
    weights = [jnp.log(rank.astype(jnp.float32))]
    for n in range(1, min(ORDERS, tokens.shape[-1])):
        weights.append(weights[-1][..., :-1] + weights[0][..., n:])
    return weights
