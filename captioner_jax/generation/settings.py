"""How captions are to be written, as people ask for it, and the search that does so."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le
from jaxtyping import Array, Key

from captioner_jax.config import STRICT, NotNegative, Positive, Seed
from captioner_jax.errors import UserError
from captioner_jax.generation import filters
from captioner_jax.generation.consensus import by_consensus, check_comparable
from captioner_jax.generation.constraints import (
    Constraint,
    at_least,
    at_most,
    banned,
    begins_with,
    does_not_end_with,
    must_say,
    no_repeated,
    repeats_cost,
)
from captioner_jax.generation.ensemble import Ensemble
from captioner_jax.generation.neighbours import Index, near
from captioner_jax.generation.search import (
    Beams,
    Found,
    Normaliser,
    beam_search,
    beam_steps,
    different,
    gnmt_penalty,
    length_power,
    sample,
    sample_evenly,
)
from captioner_jax.generation.selection import Banks, Best, Diverse, Selection
from captioner_jax.text.endings import BAD_ENDINGS
from captioner_jax.text.special import UNKNOWN
from captioner_jax.text.tokenizer import Tokenizer

Search = Callable[[Ensemble, Key[Array, " B"], Sequence[Index]], Found]
# Of captions drawn at random, how many are drawn for each that is wanted: two may be the same.
DRAWN_FOR_ONE = 4


@dataclass(frozen=True)
class Generation:
    """How captions are written."""

    __pydantic_config__ = STRICT

    beam: Positive = 5
    """K, the width of the search; 1 is greedy."""
    num_captions: Positive = 1
    """Different captions an image, the best first; fewer where the search, or what is drawn, has no more."""
    length_penalty: Literal["power", "gnmt"] = "power"
    """What log-probabilities are divided by: length^alpha, or ((5 + length) / 6)^alpha."""
    length_alpha: Annotated[float, Ge(0), Le(10)] = 0.7
    """Alpha: 0 favours short captions; 1, with power, ranks by the mean log-probability of a word."""
    groups: Positive = 1
    """Groups of beams that are kept from each other's words: captions that differ more."""
    diversity: Annotated[float, Ge(0), Le(1000)] = 0.5
    """With groups, what a word costs for each beam that has just taken it."""
    consensus: NotNegative = 0
    """So many captions are drawn at random, and of the beam's that is the best which is most like them; 0: none are,
    and the likeliest is."""
    neighbours: NotNegative = 0
    """With consensus, so many of the training photographs that look most like the picture: what people wrote of them
    counts as much as what is drawn. For captioners that keep these (python -m captioner_jax.neighbours)."""
    temperature: Annotated[float, Ge(1e-6)] | None = None
    """If this or one of the next three is set, words are drawn at random; below 1 likely words gain. With consensus it
    is what is drawn for that."""
    top_k: Positive | None = None
    """Draw from the k likeliest words."""
    top_p: Annotated[float, Gt(0), Le(1)] | None = None
    """Draw from the fewest words that hold this share of the probability."""
    min_p: Annotated[float, Gt(0), Le(1)] | None = None
    """Draw from words at least this share as likely as the likeliest."""
    seed: Seed = 0
    """Of what is drawn; the same picture and seed give the same captions, whatever comes before or after. By consensus
    they may differ between a picture by itself and among others, whose batch rounds otherwise."""
    min_length: NotNegative = 0
    """Words a caption has at least."""
    max_length: Positive | None = None
    """Words it has at most; None: what the captioner was trained on."""
    no_repeat_ngram: Positive | None = None
    """So many words in a row are not written twice."""
    repetition_penalty: Annotated[float, Ge(1)] = 1.0
    """What the log-probability of a word that is there already is multiplied by."""
    prefix: str = ""
    """What captions begin with."""
    banned: tuple[str, ...] = ()
    """Words that are not written."""
    must_say: tuple[str, ...] = ()
    """Words that every caption has."""
    good_ending: bool = True
    """No caption ends with a, the, of, with and the like."""

    @property
    def draws(self) -> bool:
        """Are the captions drawn at random?"""
        return not self.consensus and any(x is not None for x in (self.temperature, self.top_k, self.top_p, self.min_p))


def make_search(asked: Generation, tokenizer: Tokenizer, length: int) -> Search:
    """The search for captions of up to `length` tokens, END included, from an ensemble and keys; to be jitted.

    Raises UserError where what is asked for contradicts itself, or names words that the captioner does not know.
    """
    words, constraints = _asked_of_words(asked, tokenizer, length)
    normaliser, selection, drawn_by = _normaliser(asked), _selection(asked, tokenizer), _filters(asked)

    def find(ensemble: Ensemble, keys: Key[Array, " B"], photographs: Sequence[Index]) -> Found:
        if asked.draws:
            count = 1 if asked.num_captions == 1 else DRAWN_FOR_ONE * asked.num_captions
            return sample(ensemble, words + 1, count, keys, constraints, drawn_by)
        found = beam_search(ensemble, words + 1, asked.beam, constraints, normaliser, selection)
        if not asked.consensus:
            return found
        drawn = sample_evenly(ensemble, words + 1, asked.consensus, keys, constraints, drawn_by)
        return by_consensus(found, drawn, near(ensemble, photographs, asked.neighbours), tokenizer.most_frequent)

    return lambda ensemble, keys, photographs=(): different(find(ensemble, keys, photographs), asked.num_captions)


def make_recorder(asked: Generation, tokenizer: Tokenizer, length: int) -> Callable[[Ensemble], Beams]:
    """The steps of the same search; to be jitted. Raises UserError as `make_search`, and where there are no beams."""
    if asked.draws:
        raise UserError("words are drawn at random (temperature, top_k, top_p, min_p), and there is no search to show")
    words, constraints = _asked_of_words(asked, tokenizer, length)
    normaliser, selection = _normaliser(asked), _selection(asked, tokenizer)
    return lambda ensemble: beam_steps(ensemble, words + 1, asked.beam, constraints, normaliser, selection)


def _asked_of_words(asked: Generation, tokenizer: Tokenizer, length: int) -> tuple[int, list[Constraint]]:
    """How many words a caption may have, and what else is asked of them."""
    words = length - 1 if asked.max_length is None else asked.max_length
    _check(asked, words, length)
    return words, _constraints(asked, tokenizer, words)


def _normaliser(asked: Generation) -> Normaliser:
    return (length_power if asked.length_penalty == "power" else gnmt_penalty)(asked.length_alpha)


def _check(asked: Generation, words: int, length: int) -> None:
    if words >= length:
        raise UserError(f"max_length {words}: this captioner writes up to {length - 1} words")
    if asked.min_length > words:
        raise UserError(f"min_length {asked.min_length} is more than the {words} words that a caption may have")
    if asked.draws and asked.groups > 1:
        raise UserError("groups are for beams, but words are drawn at random (temperature, top_k, top_p, min_p)")
    if not asked.draws and asked.num_captions > asked.beam:
        raise UserError(f"num_captions {asked.num_captions} takes a beam at least as wide, not {asked.beam}")
    check_comparable(asked.consensus, words + 1)
    if asked.neighbours and not asked.consensus:
        raise UserError("neighbours help to choose by consensus: ask for one, such as consensus 100 and beam 20")
    if asked.consensus and asked.beam == 1:
        raise UserError(
            "consensus chooses among a beam's captions, and a beam of 1 has one: take a wider one, such as 20"
        )
    if asked.beam % asked.groups:
        raise UserError(f"a beam of {asked.beam} does not divide into {asked.groups} groups")
    if asked.groups > 1 and asked.must_say:
        raise UserError("must_say and groups cannot be had together")
    if asked.groups == 1 and asked.diversity != Generation.diversity:
        raise UserError("diversity keeps groups of beams apart: ask for some, such as groups 5, or leave it out")


def _constraints(asked: Generation, tokenizer: Tokenizer, words: int) -> list[Constraint]:
    prefix = _known(tokenizer, asked.prefix, "prefix") if asked.prefix else []
    wanted = _wanted(asked, tokenizer)
    unwanted = [_word(tokenizer, word, "banned") for word in asked.banned]
    bad = _bad_endings(tokenizer) if asked.good_ending else []
    missing = set(wanted) - set(prefix)
    if len(prefix) + len(missing) > words:
        raise UserError(f"prefix and must_say are more than the {words} words that a caption may have")
    if missing and missing <= set(bad) and len(prefix) + len(missing) == words:
        raise UserError(f"must_say: in {words} words it would be a caption's end, and a bad one, as good_ending has it")
    if both := set(unwanted) & {*prefix, *wanted}:
        raise UserError(f"banned: {tokenizer.name(min(both))!r} is in prefix or must_say, too")
    if len(prefix) == words and prefix[-1] in bad:
        raise UserError(f"prefix: captions of {words} words would end with it, and badly; good_ending forbids that")
    constraints = [at_most(words), at_least(max(asked.min_length, len(prefix)))]
    constraints += [begins_with(prefix)] if prefix else []
    constraints += [must_say(wanted, words, bad)] if wanted else []
    constraints += [banned(unwanted)] if unwanted else []
    constraints += [no_repeated(asked.no_repeat_ngram)] if asked.no_repeat_ngram else []
    constraints += [repeats_cost(asked.repetition_penalty)] if asked.repetition_penalty > 1 else []
    constraints += [does_not_end_with(bad, words)] if bad else []
    return constraints


def _wanted(asked: Generation, tokenizer: Tokenizer) -> list[int]:
    """The words of must_say, each once."""
    return sorted({_word(tokenizer, word, "must_say") for word in asked.must_say})


def _bad_endings(tokenizer: Tokenizer) -> list[int]:
    """Those that are one token of the captioner's."""
    endings = [f" {word}" for word in sorted(BAD_ENDINGS)]  # as they stand in a caption, where pairs of bytes are meant
    return [ids[0] for ids in tokenizer.encode_all(endings) if len(ids) == 1 and ids[0] != UNKNOWN]


def _filters(asked: Generation) -> Sequence[filters.Filter]:
    chosen = [
        (filters.temperature, asked.temperature),
        (filters.top_k, asked.top_k),
        (filters.top_p, asked.top_p),
        (filters.min_p, asked.min_p),
    ]
    return [make(value) for make, value in chosen if value is not None]


def _selection(asked: Generation, tokenizer: Tokenizer) -> Selection:
    if asked.must_say:
        return Banks(asked.beam, _wanted(asked, tokenizer))
    return Diverse(asked.beam, asked.groups, asked.diversity) if asked.groups > 1 else Best(asked.beam)


def _known(tokenizer: Tokenizer, text: str, asked: str) -> list[int]:
    """The ids of a text. Raises UserError, which names them, where the captioner does not know its words."""
    ids = tokenizer.encode_all([text])[0]
    if not ids or UNKNOWN in ids:
        unknown = dict.fromkeys(tokenizer.unknown(text)) or [text]
        raise UserError(f"{asked}: the captioner's vocabulary does not have {', '.join(map(repr, unknown))}")
    return ids


def _word(tokenizer: Tokenizer, word: str, asked: str) -> int:
    """The id of one word. Raises UserError where it is none or several, or words are written in pieces."""
    if not tokenizer.by_words:
        raise UserError(f"{asked} takes a captioner that writes whole words, and this one writes parts of words")
    ids = _known(tokenizer, word, asked)
    if len(ids) > 1:
        raise UserError(f"{asked}: {word!r} is {len(ids)} tokens of this captioner's, and may only be one")
    return ids[0]
