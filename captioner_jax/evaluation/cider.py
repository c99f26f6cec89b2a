"""CIDEr and CIDEr-D (Vedantam et al. 2015); what the official COCO caption evaluation prints as CIDEr is CIDEr-D."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from captioner_jax.evaluation.ngrams import ORDERS, Ngrams, checked, ngrams, paired
from captioner_jax.text.likeness import SIGMA


@dataclasses.dataclass(frozen=True)
class DocumentFrequencies:
    """In the references of how many images each n-gram stands.

    Those of a single image may be left out: an n-gram that is not here weighs as if it were in one.
    """

    images: int
    counts: Mapping[tuple[str, ...], int]


def document_frequencies(references: Sequence[Sequence[Sequence[str]]]) -> DocumentFrequencies:
    """Of the n-grams that stand in the references of two images or more."""
    image = np.repeat(np.arange(len(references)), list(map(len, references)))
    counts: dict[tuple[str, ...], int] = {}
    for grams in ngrams(list(itertools.chain.from_iterable(references))):
        found = _images_with(grams, image)
        counts.update((gram, n) for gram, n in zip(grams.spelled(), found.tolist(), strict=True) if n > 1)
    return DocumentFrequencies(len(references), counts)


def cider(
    candidates: Sequence[Sequence[str]],
    references: Sequence[Sequence[Sequence[str]]],
    frequencies: DocumentFrequencies | None = None,
) -> Float[np.ndarray, " images"]:
    r"""CIDEr of each image; their mean is the corpus's (Vedantam et al. 2015, equations 1 to 3, times 10):

    $$\text{CIDEr}(c) = \frac{10}{4 m} \sum_{n=1}^{4} \sum_{j=1}^{m}
    \frac{g^n(c) \cdot g^n(r_j)}{\lVert g^n(c) \rVert \, \lVert g^n(r_j) \rVert}, \qquad
    g^n_k(s) = h_k(s) \, \big(\log |I| - \log \max(1, \text{df}_k)\big)$$

    where caption s has n-gram k h_k(s) times, and the references of df_k images have it, of the |I| images scored here
    or as `frequencies` tells. Words are not stemmed, and the factor is 10, as in the authors' code (vrama91/cider). The
    COCO evaluation does not compute this one.
    """
    image = np.repeat(np.arange(len(candidates)), checked(candidates, references))
    return _mean(_cosines(candidates, references, image, frequencies, clip=False), image)


def cider_d(
    candidates: Sequence[Sequence[str]],
    references: Sequence[Sequence[Sequence[str]]],
    frequencies: DocumentFrequencies | None = None,
) -> Float[np.ndarray, " images"]:
    r"""CIDEr-D of each image; their mean is what the COCO evaluation calls CIDEr (Vedantam et al. 2015):

    $$\text{CIDEr-D}(c) = \frac{10}{4 m} \sum_{n=1}^{4} \sum_{j=1}^{m} e^{-(|c| - |r_j|)^2 / 2 \sigma^2} \,
    \frac{\min(g^n(c), g^n(r_j)) \cdot g^n(r_j)}{\lVert g^n(c) \rVert \, \lVert g^n(r_j) \rVert}$$

    with sigma = 6 words, and g^n of `cider`: of counts, where the paper has shares of the caption, which the minimum
    can tell apart. By its own document frequencies a single image scores 0.
    """
    image = np.repeat(np.arange(len(candidates)), checked(candidates, references))
    own = np.asarray(list(map(len, candidates)))
    longer = own[image] - np.asarray(list(map(len, itertools.chain.from_iterable(references))))
    cosines = _cosines(candidates, references, image, frequencies, clip=True)
    return _mean(cosines * np.exp(-(longer**2) / (2 * SIGMA**2)), image)


def _cosines(
    candidates: Sequence[Sequence[str]],
    references: Sequence[Sequence[Sequence[str]]],
    image: Int[np.ndarray, " references"],
    frequencies: DocumentFrequencies | None,
    *,
    clip: bool,
) -> Float[np.ndarray, " references"]:
    """Of each reference with its candidate, the mean over n."""
    total = np.zeros(len(image))
    captions = [*itertools.chain.from_iterable(references), *candidates]
    for grams in ngrams(captions):
        weight = grams.counts.count * _idf(grams, image, frequencies)[grams.counts.gram]
        norm = np.sqrt(np.bincount(grams.counts.caption, weight**2, len(captions)))
        reference_row, candidate_row = paired(grams.counts, image)
        r, c = weight[reference_row], weight[candidate_row]
        dots = np.bincount(grams.counts.caption[reference_row], (np.minimum(c, r) if clip else c) * r, len(image))
        norms = norm[: len(image)] * norm[len(image) + image]
        total += np.divide(dots, norms, out=np.zeros_like(norms), where=norms > 0)
    return total / ORDERS


def _idf(
    grams: Ngrams, image: Int[np.ndarray, " references"], frequencies: DocumentFrequencies | None
) -> Float[np.ndarray, " grams"]:
    """How telling each n-gram is, log |I| - log max(1, df)."""
    if frequencies is None:
        images, found = 1 + image[-1], _images_with(grams, image)
    else:
        images, found = frequencies.images, [frequencies.counts.get(gram, 0) for gram in grams.spelled()]
    return np.log(float(images)) - np.log(np.maximum(1.0, found))


def _images_with(grams: Ngrams, image: Int[np.ndarray, " references"]) -> Int[np.ndarray, " grams"]:
    """In the references of how many images each n-gram stands; the references are the first captions."""
    rows = grams.counts.caption < len(image)
    pairs = np.unique(image[grams.counts.caption[rows]] * len(grams.begin) + grams.counts.gram[rows])
    return np.bincount(pairs % max(1, len(grams.begin)), minlength=len(grams.begin))


def _mean(
    values: Float[np.ndarray, " references"], image: Int[np.ndarray, " references"]
) -> Float[np.ndarray, " images"]:
    """Times 10, over the references of each image."""
    return 10 * np.bincount(image, values) / np.bincount(image)
