"""A captioner as a directory: weights, vocabulary, preprocessing, scores, and checksums of them all.

captioner/
  captioner.json           format, model, preprocessing, scores, and the SHA-256 of the other files
  weights.safetensors      parameters by dotted name, float32 or bfloat16
  tokenizer.json           a Hugging Face `tokenizers` file
  photographs.safetensors  what it sees in photographs, and what people wrote of them, if it keeps any
  README.md                the same for people: a model card, theirs to change
"""

import dataclasses
import functools
import json
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import jax
import ml_dtypes
import numpy as np
import pydantic
import safetensors
import safetensors.numpy
from flax import nnx

from captioner_jax.config import DataConfig, Length, ModelConfig, from_dict
from captioner_jax.data.images import Preprocessing
from captioner_jax.errors import AbsentError, UserError
from captioner_jax.files import sha256, whole_folder, write_bytes_whole, write_whole
from captioner_jax.generation.consensus import check_comparable
from captioner_jax.generation.neighbours import Photographs
from captioner_jax.model.captioner import Captioner
from captioner_jax.model.names import flat
from captioner_jax.model_card import model_card, telling_of_photographs
from captioner_jax.pretrained.files import from_hub
from captioner_jax.text.tokenizer import Tokenizer

FORMAT = 1
RELEASED = Path(__file__).parent / "released" / "flickr8k"
"""The captioner that comes with the package."""
CARD, WEIGHTS, TOKENIZER = "captioner.json", "weights.safetensors", "tokenizer.json"
PHOTOGRAPHS = "photographs.safetensors"
_MAX_LENGTH = pydantic.TypeAdapter(Annotated[Length, pydantic.Strict()])
_SCORES, _TRAINING = pydantic.TypeAdapter(dict[str, float]), pydantic.TypeAdapter(dict[str, Any])


@dataclasses.dataclass(frozen=True)
class Bundle:
    """Everything that captioning needs, and what is known of how well it does."""

    model: ModelConfig
    preprocessing: Preprocessing
    max_length: int
    tokenizer: Tokenizer
    parameters: dict[Any, Any]
    scores: dict[str, float]
    training: dict[str, Any]
    photographs: Photographs | None = None
    """Those that similar ones are looked for among, if they are kept."""

    @functools.cached_property
    def graphdef(self) -> nnx.GraphDef[Captioner]:
        return abstract(self.model, len(self.tokenizer))[0]

    @property
    def trained_on(self) -> DataConfig:
        """The data set that it was trained on, without the places where that lay, as this captioner sees images."""
        data = from_dict({"data": self.training.get("data", {})}, "the captioner's data settings").data
        seen = self.preprocessing
        return dataclasses.replace(data, image_size=seen.image_size, framing=seen.framing, max_length=self.max_length)

    def save(self, directory: Path) -> None:
        """Writes the directory, all of it or nothing; one that is there is replaced."""
        with whole_folder(directory) as folder:
            weights = {name: np.asarray(value) for name, value in flat(self.parameters).items()}
            (folder / WEIGHTS).write_bytes(safetensors.numpy.save(weights))  # save_file hides it from other users
            (folder / TOKENIZER).write_text(self.tokenizer.to_json(), encoding="utf-8")
            if self.photographs is not None:
                (folder / PHOTOGRAPHS).write_bytes(safetensors.numpy.save(self.photographs._asdict()))
            card = {
                "format": FORMAT,
                "model": dataclasses.asdict(self.model),
                "preprocessing": dataclasses.asdict(self.preprocessing),
                "max_length": self.max_length,
                "scores": self.scores,
                "training": self.training,
                "sha256": {file.name: sha256(file) for file in sorted(folder.iterdir())},
            }
            (folder / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
            (folder / "README.md").write_text(self._model_card(), encoding="utf-8")

    def _model_card(self) -> str:
        parameters = sum(np.size(leaf) for leaf in jax.tree.leaves(self.parameters))
        known = self.scores, self.training, 0 if self.photographs is None else len(self.photographs.seen)
        return model_card(self.model, self.preprocessing, len(self.tokenizer), parameters, *known)


def keep(directory: Path, photographs: Photographs) -> None:
    """A captioner's directory holds these from now on, and tells so; all else in it stays as it is.

    At no moment is it damaged. Raises OSError where it cannot be written.
    """
    card = json.loads((directory / CARD).read_text(encoding="utf-8"))

    def write_card() -> None:
        write_whole(directory / CARD, json.dumps(card, indent=2) + "\n")

    if card["sha256"].pop(PHOTOGRAPHS, None) is not None:  # others, which are no longer there in a moment
        write_card()
    write_bytes_whole(directory / PHOTOGRAPHS, safetensors.numpy.save(photographs._asdict()))
    card["sha256"][PHOTOGRAPHS] = sha256(directory / PHOTOGRAPHS)
    write_card()
    readme = directory / "README.md"
    if readme.is_file():
        told = readme.read_text(encoding="utf-8", errors="surrogateescape")
        write_whole(readme, telling_of_photographs(told, len(photographs.seen)))


def load(directory: Path) -> Bundle:
    """Raises UserError where the directory is no captioner, a damaged one, or one of a later format."""
    card = _card(directory)
    try:
        if missing := {"format", "sha256", "model", "preprocessing", "max_length", "scores", "training"} - card.keys():
            raise UserError(f"{directory} is damaged: {CARD} has no {min(missing)}")
        if card["format"] > FORMAT:
            raise UserError(f"{directory} is of format {card['format']}, later than this program knows: update it")
        if not {WEIGHTS, TOKENIZER} <= card["sha256"].keys():
            raise UserError(f"{directory} is damaged: {CARD} has no checksums of its files")
        if others := card["sha256"].keys() - {WEIGHTS, TOKENIZER, PHOTOGRAPHS}:
            raise UserError(f"{directory} is damaged: {CARD} names {min(others)}, which is none of a captioner's files")
        with ThreadPoolExecutor(1) as beside:  # while other libraries do that, Python makes out the model
            reading = beside.submit(_arrays, directory, card["sha256"])
            model = pydantic.TypeAdapter(ModelConfig).validate_json(json.dumps(card["model"]))
            preprocessing = pydantic.TypeAdapter(Preprocessing).validate_json(json.dumps(card["preprocessing"]))
            _check(directory / TOKENIZER, card["sha256"][TOKENIZER])
            tokenizer = Tokenizer.from_json((directory / TOKENIZER).read_text(encoding="utf-8"))
            shapes = abstract(model, len(tokenizer))[1]
        weights, photographs = reading.result()
        max_length = _MAX_LENGTH.validate_python(card["max_length"])
        scores, training = _SCORES.validate_python(card["scores"]), _TRAINING.validate_python(card["training"])
        parameters = _like(shapes, weights)
        return Bundle(model, preprocessing, max_length, tokenizer, parameters, scores, training, photographs)
    except OSError as error:
        why = f"{error.filename or directory}: {error.strerror or error}"
        raise UserError(f"{directory} is damaged: {why}") from error
    except (AttributeError, KeyError, TypeError, ValueError, safetensors.SafetensorError) as error:
        raise UserError(f"{directory} is damaged: {error!r}") from error


def _arrays(directory: Path, digests: dict[str, str]) -> tuple[dict[str, np.ndarray], Photographs | None]:
    """The weights, by name, and the photographs that are kept, if any. Raises UserError for damaged files."""
    for name in digests.keys() - {TOKENIZER}:
        _check(directory / name, digests[name])
    weights = safetensors.numpy.load_file(directory / WEIGHTS)
    photographs = None
    if PHOTOGRAPHS in digests:
        photographs = Photographs(**safetensors.numpy.load_file(directory / PHOTOGRAPHS))
    return {name: x.astype(np.float32, copy=False) for name, x in weights.items()}, photographs


def _check(file: Path, digest: str) -> None:
    """Raises UserError for another file than the one of this checksum, and for what is none."""
    if file.exists() and not file.is_file():
        raise UserError(f"{file} is no file")
    if sha256(file) != digest:
        raise UserError(f"{file} is damaged: its checksum is not the one in {CARD}")


def found(address: str) -> Path:
    """The folder of a captioner: itself, or by hf://OWNER/NAME[@REVISION] from the hub one of its cache.

    Raises UserError where the hub does not give it.
    """
    if not address.startswith("hf://"):
        return Path(address)
    try:
        _, folder, _ = from_hub(address, [WEIGHTS], [CARD, TOKENIZER, PHOTOGRAPHS])
    except AbsentError as error:
        raise UserError(f"{address} is no captioner: it has no {WEIGHTS}. {_how_to_convert(address)}") from error
    return folder


def _how_to_convert(address: object) -> str:
    return f"One that transformers keeps becomes one by: python -m captioner_jax.published {address} FOLDER"


def rounded(whole: Bundle) -> Bundle:
    """The same with weights of 16 bits, half as large in a file; computed with are 32 bits, if nobody asks for less."""
    return dataclasses.replace(whole, parameters=jax.tree.map(lambda x: x.astype(ml_dtypes.bfloat16), whole.parameters))


def between(one: Bundle, other: Bundle, share: float) -> Bundle:
    r"""$(1 - s)\,\theta + s\,\theta'$, weight by weight, with a share s of the other, which this was trained on from.

    Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", section 3. It has no scores yet. Raises UserError
    where the two are not of one kind.
    """
    check_alike([one, other])
    if (one.model.architecture, one.preprocessing) != (other.model.architecture, other.preprocessing):
        raise UserError("only between weights of one model something can lie, and these are of two")
    mean = jax.tree.map(lambda x, y: (1 - share) * x + share * y, one.parameters, other.parameters)
    training = one.training | {"between": {"run": other.training.get("run"), "share": share}}
    return dataclasses.replace(one, parameters=mean, scores={}, training=training, photographs=None)


@functools.cache
def abstract(model: ModelConfig, vocabulary: int) -> tuple[nnx.GraphDef[Captioner], dict[Any, Any]]:
    """The model's structure, and its variables, statistics among them, as shapes and types only."""
    captioner = nnx.eval_shape(lambda: Captioner(model, vocabulary, rngs=_same_keys()))
    graphdef, parameters = nnx.split(captioner)
    return graphdef, nnx.to_pure_dict(parameters)


class _OneKey(nnx.RngStream):
    """The same key again and again."""

    def __call__(self) -> jax.Array:
        return self.key[...]


def _same_keys() -> nnx.Rngs:
    """For weights of which only the shapes count: different keys take seconds where there are hundreds of layers."""
    rngs = nnx.Rngs(0)
    rngs.default = _OneKey(0, tag="default")  # pyright: ignore[reportAttributeAccessIssue]
    return rngs


def _like(parameters: dict[Any, Any], weights: dict[str, np.ndarray]) -> dict[Any, Any]:
    """The weights in the tree of `parameters`. Raises ValueError where names or shapes differ."""
    wanted = {name: leaf.shape for name, leaf in flat(parameters).items()}
    given = {name: leaf.shape for name, leaf in weights.items()}
    if wanted != given:
        names = sorted(name for name in wanted.keys() | given.keys() if wanted.get(name) != given.get(name))
        raise ValueError(f"its weights are not those of its model: {', '.join(names[:5])}")
    return jax.tree.unflatten(jax.tree.structure(parameters), [weights[name] for name in wanted])


def _card(directory: Path) -> dict[str, Any]:
    try:
        return json.loads((directory / CARD).read_text(encoding="utf-8"))
    except OSError as error:
        hint = f". {_how_to_convert(directory)}" if (directory / "config.json").is_file() else ""
        if (directory / "captioner" / CARD).is_file():
            hint = f". That of this run is {directory / 'captioner'}"
        if not directory.exists() and re.fullmatch(r"[\w.-]+/[\w.-]+", str(directory)):
            hint = f". If it is on the hub, its name is hf://{directory}"
        raise UserError(f"{directory} is no captioner: {CARD}: {error.strerror or error}{hint}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{directory / CARD} is damaged: {error}") from error


def photographs_of(bundles: Sequence[Bundle], count: int) -> list[Photographs]:
    """What each captioner keeps, for `count` neighbours to be found; nothing where none are wanted.

    Raises UserError where captioners keep none, too few, or not the same.
    """
    if not count:
        return []
    kept = [one.photographs for one in bundles if one.photographs is not None]
    if len(kept) < len(bundles):
        raise UserError(
            "a captioner keeps no photographs among which neighbours could be found: "
            "python -m captioner_jax.neighbours CAPTIONER --data.path DATA lets it keep those of its training data"
        )
    if any(not np.array_equal(one.captions, kept[0].captions) for one in kept):
        raise UserError("captioners of one ensemble must keep the same photographs for neighbours to be found")
    if count > len(kept[0].captions):
        raise UserError(f"neighbours {count}: a captioner keeps {len(kept[0].captions)} photographs")
    check_comparable(count, kept[0].captions.shape[-1])
    return kept


def check_alike(bundles: Sequence[Bundle]) -> None:
    """Raises UserError where captioners cannot write together: of unlike vocabularies, or images."""
    if len({one.tokenizer.to_json() for one in bundles}) > 1:
        raise UserError("captioners that go together need the same vocabulary: train them on the same data set")
    if len({one.preprocessing.image_size for one in bundles}) > 1:
        raise UserError("captioners that go together need images of the same size")
    if len({one.preprocessing.framing for one in bundles}) > 1:
        raise UserError("captioners that go together need the same data.framing: middle, or whole")
