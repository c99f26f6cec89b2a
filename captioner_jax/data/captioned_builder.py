"""Captioned images as TensorFlow Datasets builders: prepared once as ArrayRecord, read back without TensorFlow."""

import contextlib
import dataclasses
import functools
import logging
import shlex
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from filelock import FileLock

from captioner_jax.config import DataConfig
from captioner_jax.data.source import DataSet, Example
from captioner_jax.errors import UserError

# TensorFlow Datasets warns of every data set that is still to be prepared.
logging.getLogger("absl").addFilter(lambda record: "has no dataset_info.json" not in record.getMessage())
# Examples that one task of Beam's prepares.
CHUNK = 256
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Origin:
    """What a data set is prepared from; small, so that it can be sent to the machines that prepare a share of it."""

    open: Callable[[DataConfig], DataSet]
    config: DataConfig
    mark: str = ""
    """Tells other files from these."""


class CaptionedBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A data set of ours in the making.

    Its examples are functions of split and number, so that the same ones come out of one process and of many machines.
    """

    made_from: Origin | None = None
    """As told to `prepare`."""
    by_beam = False

    @abstractmethod
    def origin(self, manual: Path) -> Origin:
        """What it is made from if `prepare` was not told, `manual` being where the user's files lie."""

    @staticmethod
    def row(example: Example) -> Row:
        """An example as the features that `_info` declares."""
        return {"image": example.image, "name": example.name, "captions": list(example.captions)}

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(),
                    "name": tfds.features.Text(),
                    "captions": tfds.features.Sequence(tfds.features.Text()),
                }
            ),
            description=self.__doc__,
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        _opened.cache_clear()
        origin = self.made_from or self.origin(Path(dl_manager.manual_dir))
        data = _opened(origin)
        if self.info.metadata is not None:
            self.info.metadata.update(about=data.about, problems=list(data.problems), mark=origin.mark)
        return {split: self._generate_examples(origin, split, len(source)) for split, source in data.splits.items()}

    def _generate_examples(self, origin: Origin, split: str, count: int) -> Any:
        """An iterator of examples; or, for Beam, the transform that makes them."""
        make = functools.partial(_rows, origin=origin, split=split, row=self.row)
        if not self.by_beam:
            return make(range(count))
        beam = tfds.core.lazy_imports.apache_beam
        chunks = [range(first, min(first + CHUNK, count)) for first in range(0, count, CHUNK)]
        return beam.Create(chunks) | beam.FlatMap(make)


@functools.lru_cache(maxsize=1)
def _opened(origin: Origin) -> DataSet:
    """Once a process; Beam's workers come here for each chunk."""
    return origin.open(origin.config)


def _rows(
    numbers: Iterable[int], origin: Origin, split: str, row: Callable[[Example], Row]
) -> Iterator[tuple[int, Row]]:
    source = _opened(origin).splits[split]
    return ((i, row(source[i])) for i in numbers)


def prepare(builder: CaptionedBuilder, made_from: Origin | None = None, beam_options: str | None = None) -> None:
    """Prepares a data set if it is not there yet: in this process, or by Beam with these options of its pipelines.

    They look like "runner=DirectRunner direct_num_workers=4". Where another process prepares it now, waits and takes
    that. Raises UserError where the files are of no use or nothing can be written.
    """
    if builder.is_prepared():
        return
    builder.made_from = made_from
    builder.by_beam = beam_options is not None
    options = None if beam_options is None else _pipeline_options(beam_options)
    try:
        with _alone(builder):
            if builder.is_prepared():
                builder.info.read_from_directory(builder.data_path)
                return
            builder.download_and_prepare(download_config=tfds.download.DownloadConfig(beam_options=options))
    except OSError as error:
        raise UserError(f"{builder.data_path} cannot be prepared: {error}") from error


def _alone(builder: CaptionedBuilder) -> contextlib.AbstractContextManager[Any]:
    """One process at a time, where the data set is to lie on a file system; two would take each other's files away."""
    if "://" in str(builder.data_path):
        return contextlib.nullcontext()
    folder = Path(builder.data_path)
    folder.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(folder.with_name(f"{folder.name}.lock"))


def about(builder: CaptionedBuilder) -> str:
    """What a prepared data set is, in a line."""
    return str(_noted(builder).get("about", builder.info.full_name))


def mark(builder: CaptionedBuilder) -> str:
    """Of the files that a data set was prepared from."""
    return str(_noted(builder).get("mark", ""))


def _noted(builder: CaptionedBuilder) -> dict[str, Any]:
    return builder.info.metadata or {}  # pyright: ignore[reportReturnType]


def _pipeline_options(options: str) -> Any:
    try:
        from apache_beam.options.pipeline_options import PipelineOptions  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(f"preparing by Beam needs it: pip install 'captioner-jax[beam]' ({error})") from error
    return PipelineOptions([f"--{option.removeprefix('--')}" for option in shlex.split(options)])
