"""The data set that a configuration names."""

from captioner_jax.config import DataConfig, SplitFiles
from captioner_jax.data import coco, flickr_files, folder, shards
from captioner_jax.data.source import DataSet
from captioner_jax.errors import UserError


def load(config: DataConfig) -> DataSet:
    """Raises UserError where it is not to be had. Prepares shapes and the Flickr data sets on first use."""
    _check_splits(config)
    _check_files(config)
    # Imported here because TensorFlow Datasets takes most of a second to import, and files need none of it.
    match config.source:
        case "shapes":
            from captioner_jax.data.shapes import builder

            return builder.load(config.data_dir)
        case "flickr8k" | "flickr30k":
            from captioner_jax.data import flickr

            return flickr.load(config)
        case "tfds":
            from captioner_jax.data import tfds_source

            return tfds_source.load(config)
        case _:
            return read_files(config)


def read_files(config: DataConfig) -> DataSet:
    """A data set straight from the files that lie in `config.path`. Raises UserError where it is not to be had."""
    _check_splits(config)
    match config.source:
        case "folder":
            return folder.load(config)
        case "coco":
            return coco.load(config)
        case "flickr8k" | "flickr30k":
            return flickr_files.load(config)
        case "shards":
            return shards.load(config)
        case "shapes" | "tfds":
            raise UserError(f"{config.source} does not lie in files of its own")


def _check_files(config: DataConfig) -> None:
    """Raises UserError where files are named that would not be looked at."""
    if config.path is not None and config.source in ("shapes", "tfds"):
        kind = "drawn scenes are" if config.source == "shapes" else "what TensorFlow Datasets has prepared is"
        raise UserError(f"data.path: {config.path} would not be looked at: {kind} asked for; add --data.source folder")


def _check_splits(config: DataConfig) -> None:
    if config.source != "folder" and config.splits != SplitFiles():
        raise UserError(f"data.splits: {config.source} tells its splits itself; files that list them are for folder")
