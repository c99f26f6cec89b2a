"""Flickr8k and Flickr30k as TensorFlow Datasets builders over the files that people hold."""

import hashlib
from pathlib import Path

import tensorflow_datasets as tfds

from captioner_jax.config import DataConfig
from captioner_jax.data import flickr_files
from captioner_jax.data.captioned_builder import CaptionedBuilder, Origin, about, mark, prepare
from captioner_jax.data.flickr_files import KINDS, wanted
from captioner_jax.data.source import DataSet
from captioner_jax.data.tfds_source import TfdsSource, problems, rows
from captioner_jax.errors import UserError


class Flickr8k(CaptionedBuilder):
    """Photographs of people and dogs with five captions each (Hodosh, Young, Hockenmaier 2013)."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = wanted(KINDS["flickr8k"])

    def origin(self, manual: Path) -> Origin:
        return origin(DataConfig(source="flickr8k", path=str(manual)))


class Flickr30k(CaptionedBuilder):
    """Photographs of everyday scenes with five captions each (Young, Lai, Hodosh, Hockenmaier 2014)."""

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = wanted(KINDS["flickr30k"])

    def origin(self, manual: Path) -> Origin:
        return origin(DataConfig(source="flickr30k", path=str(manual)))


def origin(config: DataConfig) -> Origin:
    """The files in `config.path`, marked by the content of those that hold captions and splits."""
    digest = hashlib.sha256()
    for file in flickr_files.text_files(config):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return Origin(flickr_files.load, config, digest.hexdigest())


def load(config: DataConfig) -> DataSet:
    """The prepared data set, prepared now from `config.path` if need be.

    Raises UserError where it is neither prepared nor to be prepared, and where it was prepared from other captions or
    splits than those in `config.path`: which of the two is meant is the user's to say.
    """
    builder = builder_of(config)
    if config.path is not None:
        files = origin(config)
        if not builder.is_prepared():
            prepare(builder, files)
        elif mark(builder) != files.mark:
            raise UserError(
                f"{builder.data_path} was prepared from other captions or splits than {config.path} holds: remove it "
                "to have it prepared anew, give another --data.data-dir, or leave out --data.path to use it as it is"
            )
    elif not builder.is_prepared():
        raise UserError(
            f"{builder.data_path} is not there yet: name the files to prepare it from with --data.path, "
            f"{wanted(KINDS[config.source])}"
        )
    sources = {split: TfdsSource(rows(builder, split), split) for split in ("train", "validation", "test")}
    return DataSet.of(sources, f"{about(builder)}, prepared in {builder.data_path}", problems(builder))


def builder_of(config: DataConfig) -> Flickr8k | Flickr30k:
    """The builder that `config.source` names."""
    kind = Flickr8k if config.source == "flickr8k" else Flickr30k
    return kind(data_dir=config.data_dir, file_format="array_record")
