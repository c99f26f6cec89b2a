"""The data set that a configuration names."""

from captioner_jax.config import DataConfig
from captioner_jax.data.source import DataSet


def load(config: DataConfig) -> DataSet:
    """Raises UserError where it is not to be had. Prepares the shapes data set on first use."""
    # Imported here because TensorFlow Datasets takes most of a second to import, and a folder needs none of it.
    match config.source:
        case "shapes":
            from captioner_jax.data.shapes import builder

            return builder.load(config.path)
        case "folder":
            from captioner_jax.data import folder

            return folder.load(config)
        case "tfds":
            from captioner_jax.data import tfds_source

            return tfds_source.load(config)
