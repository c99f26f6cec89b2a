"""Any data set of yours, prepared as a TensorFlow Datasets data set by the name of captioned/NAME."""

from pathlib import Path

import tensorflow_datasets as tfds

from captioner_jax.config import DataConfig
from captioner_jax.data.captioned_builder import CaptionedBuilder, Origin
from captioner_jax.data.load import read_files
from captioner_jax.errors import UserError


class Captioned(CaptionedBuilder):
    """Captioned images of your own."""

    VERSION = tfds.core.Version("1.0.0")

    def origin(self, manual: Path) -> Origin:
        raise UserError("say what to prepare: python -m captioner_jax.data prepare captioned/NAME --path FOLDER")


def origin(config: DataConfig) -> Origin:
    """The files that a configuration names: a folder, shards, COCO or Flickr."""
    return Origin(read_files, config)


def builder_of(name: str, data_dir: str | None) -> Captioned:
    """The builder of captioned/`name`."""
    about = tfds.core.BuilderConfig(name=name, description=f"captioned images, {name}")
    return Captioned(config=about, data_dir=data_dir, file_format="array_record")
