"""Any TensorFlow Datasets data set of captioned images that is prepared as array_record, read without TensorFlow."""

from typing import Any

import tensorflow_datasets as tfds

from captioner_jax.config import DataConfig, TfdsNames
from captioner_jax.data.source import DataSet, Example, Source
from captioner_jax.errors import UserError


class TfdsSource(Source):
    """A split of a prepared data set, its features found by the names in `names`."""

    def __init__(self, rows: Any, names: TfdsNames, split: str):
        self.rows = rows
        self.names = names
        self.split = split

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, i: int) -> Example:
        row = self.rows[i]
        texts = _feature(row, self.names.captions)
        texts = [texts] if isinstance(texts, bytes) else texts
        return Example(f"{self.split} {i}", _feature(row, self.names.image), tuple(text.decode() for text in texts))


def load(config: DataConfig) -> DataSet:
    """The three splits that `config.tfds` names. Raises UserError where they are not there as array_record."""
    names = config.tfds
    splits = {"train": names.train, "validation": names.validation, "test": names.test}
    try:
        sources = {key: TfdsSource(_rows(names, split, config.path), names, split) for key, split in splits.items()}
        for source in sources.values():
            source[0]
    except KeyError as error:
        raise UserError(f"data.tfds: {names.name} has no feature {error}") from error
    except (tfds.core.DatasetNotFoundError, ImportError, OSError, ValueError, NotImplementedError) as error:
        where = config.path or "the TensorFlow Datasets directory"
        raise UserError(f"data.tfds: {names.name} is not prepared as array_record in {where}: {error}") from error
    return DataSet(sources["train"], {"validation": sources["validation"]}, {"test": sources["test"]})


def _rows(names: TfdsNames, split: str, data_dir: str | None) -> Any:
    decoders = {names.image.split("/")[0]: tfds.decode.SkipDecoding()}
    return tfds.data_source(names.name, split=split, data_dir=data_dir, decoders=decoders, download=False)


def _feature(row: Any, name: str) -> Any:
    for level in name.split("/"):
        row = row[level]
    return row
