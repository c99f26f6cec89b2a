"""What a captioner tells of itself to those who find it: a README.md after Mitchell et al. 2019, "Model Cards"."""

import re
from collections.abc import Mapping
from typing import Any

from captioner_jax.config import Framing, ModelConfig
from captioner_jax.data.images import Preprocessing
from captioner_jax.text.special import SPECIAL_TOKENS

# As `docs/data.md` has them, with their sources.
TERMS = {
    "shapes": "Scenes drawn by captioner_jax itself, with no terms attached.",
    "coco": "Captions CC BY 4.0; photographs from Flickr under their owners' terms.",
    "coco_captions": "Captions CC BY 4.0; photographs from Flickr under their owners' terms.",
    "flickr8k": "For research and teaching, not for commerce; photographs from Flickr under their owners' terms.",
    "flickr30k": "For research and teaching, not for commerce; photographs from Flickr under their owners' terms.",
}
DECODERS = {"plain": "Transformer", "gpt2": "GPT-2", "bert": "BERT"}
UNKNOWN_TERMS = "Not known to the program that wrote this card: whoever trained the captioner should say."
LIMITS = """\
- It tells what captions of its training data tell, in their words, and takes what they do not know for what they do.
- It can be wrong in any caption, with any score. Nothing that matters should rest on one.
- Captions of photographs by volunteers guess at people's sex, age and relations; it has learnt their guesses."""
SEEN: dict[Framing, str] = {
    "middle": "- It sees only the middle square of a picture, at the size above: small things and edges are lost.",
    "whole": "- It sees a picture squeezed into the square above: small things are lost, and proportions are not true.",
}
HEAD = """\
---
library_name: captioner_jax
pipeline_tag: image-to-text
tags: [image-captioning, jax, flax]
---
"""


def model_card(
    model: ModelConfig,
    preprocessing: Preprocessing,
    entries: int,
    parameters: int,
    scores: Mapping[str, float],
    training: Mapping[str, Any],
    photographs: int,
) -> str:
    """The card, in Markdown. `entries` are those of the vocabulary, `parameters` the numbers that it has,
    `photographs` those that it keeps."""
    size = preprocessing.image_size
    data = training.get("data", {})
    name = data.get("tfds", {}).get("name") if data.get("source") == "tfds" else data.get("source")
    terms = TERMS.get(re.split("[:/]", name or "")[0], UNKNOWN_TERMS)
    kept = f" {of_photographs(photographs)}" if photographs else ""
    return f"""{HEAD}
# {training.get("run", "An image captioner")}

Writes captions of pictures.

    # with captioner_jax installed, and FOLDER being this one
    python -c "from captioner_jax import Captioner; print(Captioner.load('FOLDER').caption(['dog.jpg'], beam=5))"

| | |
|---|---|
| encoder | {model.encoder.kind}, pictures of {size} x {size} |
| decoder | {_decoder(model)} |
| parameters | {parameters:,} |
| vocabulary | {_vocabulary(entries, data.get("tokenizer"))} |

## Data

{_learning(name, training)}{kept}

## Scores

{_table(scores)}

Loss in nats a token; BLEU-4 and CIDEr-D of 1 are 100 in papers. Validation scores are of greedy captions, perhaps of a
part of the split, and chose among the captioners of one run; test scores are of the whole split, never trained on.

## Licence

Of the data: {terms}
Published weights that an encoder began with, or learned from, have terms of their own. Whoever passes this captioner on
chooses a licence that agrees with both, and names it here.

## Limits

{LIMITS}
{SEEN[preprocessing.framing]}
"""


def _decoder(model: ModelConfig) -> str:
    layers = f"{model.layers} layers of width {model.width}, {model.heads} heads, fusion {model.fusion}"
    return f"{DECODERS[model.decoder]}: {layers}"


def _learning(data: str | None, training: Mapping[str, Any]) -> str:
    """What it was trained on, and for how long; or that others did, and where they tell."""
    if "published" in training:
        return (
            f"Trained by others, who published it as `{training['published']}`: ask there on what, and on which terms."
        )
    beside = f", beside a teacher, {training['teacher']} with published weights" if "teacher" in training else ""
    return f"Trained on `{data or 'unknown'}` for {_steps(training)}{_before(training)}{beside}.{_between(training)}"


def _steps(training: Mapping[str, Any]) -> str:
    return f"{training.get('step', 'an unknown number of')} steps"


def _before(training: Mapping[str, Any]) -> str:
    """What it began with, and what that did."""
    start = training.get("start")
    if not isinstance(start, Mapping):
        return ""
    if "published" in start:
        return f", after others had trained it and published it as `{start['published']}`"
    return f", after `{start.get('run', 'another captioner')}` for {_steps(start)}{_before(start)}"


def _between(training: Mapping[str, Any]) -> str:
    between = training.get("between")
    if not isinstance(between, Mapping):
        return ""
    share, run = between.get("share"), between.get("run") or "another captioner"
    return f" Its weights lie between these and those of `{run}`, of which they have a share of {share}."


def _vocabulary(entries: int, tokenizer: str | None) -> str:
    """How many words there are; or, where it is made of something else or nobody knows of what, how many entries."""
    marks = len(SPECIAL_TOKENS)
    return f"{entries - marks:,} words and {marks} marks" if tokenizer == "words" else f"{entries:,} entries"


def of_photographs(number: int) -> str:
    """What a card tells of photographs that the captioner keeps."""
    return f"This folder holds what people wrote of {number:,} photographs."


def telling_of_photographs(card: str, number: int) -> str:
    """A card that tells so, at its end if it told of none."""
    told, found = re.subn(of_photographs(0).replace("0", r"[\d,]+"), of_photographs(number), card)
    return told if found else f"{card.rstrip()}\n\n{of_photographs(number)}\n"


def _table(scores: Mapping[str, float]) -> str:
    if not scores:
        return "None were measured."
    rows = [f"| {name.replace('/', ': ')} | {value:.3f} |" for name, value in scores.items()]
    return "\n".join(["| | |", "|---|---:|", *rows])
