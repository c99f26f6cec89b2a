"""Any TensorFlow Datasets data set of captioned images that is prepared as array_record, read without TensorFlow."""

from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds
import tqdm
from etils import epath

# Not tfds.builder, which prefers a data set's code to its files: that of COCO cannot run without TensorFlow.
from tensorflow_datasets.core.read_only_builder import builder_from_files

from captioner_jax.config import DataConfig
from captioner_jax.data.remembered import remembered
from captioner_jax.data.source import DataSet, Example, Source
from captioner_jax.errors import UserError

# Features that hold an image's name, in our data sets and in COCO.
NAMES = ("name", "image/filename")


class TfdsSource(Source):
    """A split of a prepared data set, the features of image, captions and facts found by their names."""

    def __init__(
        self, rows: Any, split: str, image: str = "image", captions: str = "captions", facts: str | None = None
    ):
        self.rows = rows
        self.split = split
        self.image = image
        self.told = captions
        self.facts = facts

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, i: int) -> Example:
        row = self.rows[i]
        texts = _feature(row, self.told)
        texts = [texts] if isinstance(texts, bytes) else texts
        name = next((row[feature].decode() for feature in NAMES if feature in row), f"{self.split} {i}")
        facts = _feature(row, self.facts).decode() if self.facts else None
        return Example(name, _feature(row, self.image), tuple(text.decode() for text in texts), facts)

    def check(self, name: str) -> None:
        """Raises UserError where there is no example, or no image and captions in it; KeyError for no such feature."""
        if not len(self):
            raise UserError(f"data.tfds: the split {self.split} of {name} is empty")
        wrong = UserError(f"data.tfds: in {name}, {self.image} is no encoded image or {self.told} no text")
        try:
            image = self[0].image
        except (AttributeError, TypeError, UnicodeDecodeError, IndexError) as error:
            raise wrong from error
        if not isinstance(image, bytes):
            raise wrong

    def captions(self) -> Iterator[tuple[str, ...]]:
        """Read with the images, which is a pass over the whole split; that is done once as long as its files stay."""
        return map(tuple, remembered([self.split, self.told, *_files(self.rows)], self._read_captions))

    def _read_captions(self) -> list[tuple[str, ...]]:
        examples = tqdm.tqdm(self, desc="reading captions, once", unit="image", delay=2, disable=None)
        return [example.captions for example in examples]


def load(config: DataConfig) -> DataSet:
    """The three splits that `config.tfds` names. Raises UserError where they are not there as array_record."""
    names = config.tfds
    splits = {"train": names.train, "validation": names.validation, "test": names.test}
    try:
        builder = builder_from_files(names.name, data_dir=config.data_dir)
        _feature(builder.info.features, names.image.split("/")[0])
        sources = {
            key: TfdsSource(rows(builder, split, names.image), split, names.image, names.captions)
            for key, split in splits.items()
        }
        for source in sources.values():
            source.check(names.name)
    except KeyError as error:
        raise UserError(f"data.tfds: {names.name} has no feature {error}") from error
    except (tfds.core.DatasetNotFoundError, ImportError, OSError, ValueError, NotImplementedError) as error:
        where = config.data_dir or "the TensorFlow Datasets directory"
        raise UserError(f"data.tfds: {names.name} is not prepared as array_record in {where}: {error}") from error
    about = (
        f"{builder.info.full_name}: validation on {names.validation}, test on {names.test}, "
        f"training on {names.train} ({len(sources['train']):,} images)"
    )
    return DataSet.of(sources, about, problems(builder))


def rows(builder: tfds.core.DatasetBuilder, split: str, image: str = "image") -> Any:
    """The examples of a split, their images still encoded."""
    decoders = {image.split("/")[0]: tfds.decode.SkipDecoding()}
    return builder.as_data_source(split=split, decoders=decoders)  # pyright: ignore[reportCallIssue]


def problems(builder: tfds.core.DatasetBuilder) -> tuple[str, ...]:
    """The mistakes that one of our builders found in the files that it was prepared from."""
    return tuple((builder.info.metadata or {}).get("problems", ()))


def _files(rows: Any) -> list[Any]:
    """The files of a prepared data set: name, size and time of change of each."""
    folder = epath.Path(rows.dataset_info.data_dir)
    stats = ((file, file.stat()) for file in sorted(folder.iterdir()))
    return [(str(file), stat.length, stat.mtime) for file, stat in stats]


def _feature(row: Any, name: str) -> Any:
    for level in name.split("/"):
        row = row[level]
    return row
