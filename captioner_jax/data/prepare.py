"""Data sets made on purpose, ahead of a run: here or by Apache Beam."""

import dataclasses
import re

import tensorflow_datasets as tfds

from captioner_jax.config import DataConfig
from captioner_jax.data import captioned_builder, flickr, own
from captioner_jax.data.captioned_builder import CaptionedBuilder, Origin
from captioner_jax.data.shapes.builder import Shapes, drawn
from captioner_jax.errors import UserError

_OWN = re.compile(r"captioned/(\w[\w.-]*)")


def ours(name: str, config: DataConfig, beam_options: str | None) -> str:
    """Prepares one of the project's data sets, and says what it is. Raises UserError where that cannot be done."""
    builder, origin = _made(name, config)
    if builder.is_prepared():
        raise UserError(f"{builder.data_path} is there already; remove it to have it prepared anew")
    captioned_builder.prepare(builder, origin, beam_options)
    splits = ", ".join(f"{split} {info.num_examples:,}" for split, info in builder.info.splits.items())
    problems = (builder.info.metadata or {}).get("problems", ())
    lines = [captioned_builder.about(builder), f"{splits}, in {builder.data_path}"]
    if problems:
        lines += [f"{len(problems):,} lines or images were left out, such as", *problems[:5]]
    return "\n".join(lines)


def coco_captions(data_dir: str | None) -> str:
    """Has TensorFlow Datasets download and prepare COCO Captions, the one thing here that needs TensorFlow."""
    try:
        import tensorflow  # noqa: F401  # pyright: ignore[reportMissingImports, reportMissingModuleSource]
    except ImportError as error:
        raise UserError(
            "TensorFlow Datasets prepares coco_captions with TensorFlow: pip install 'captioner-jax[coco]'. Reading "
            f"what is prepared needs none, and --data.source coco reads COCO's own files ({error})"
        ) from error
    builder = tfds.builder("coco_captions", data_dir=data_dir, file_format="array_record")
    builder.download_and_prepare()
    return f"{builder.info.full_name} in {builder.data_path}"


def _made(name: str, config: DataConfig) -> tuple[CaptionedBuilder, Origin]:
    """The builder of that name, and what it makes its data set from."""
    if name == "shapes":
        return Shapes(data_dir=config.data_dir, file_format="array_record"), Origin(drawn, DataConfig())
    match = _OWN.fullmatch(name)
    if name not in ("flickr8k", "flickr30k") and match is None:
        raise UserError(f"{name}: known are shapes, flickr8k, flickr30k, coco_captions and captioned/NAME")
    if config.path is None:
        raise UserError(f"what is {name} made from? Name the folder of its files: --path FOLDER")
    if match is not None:
        return own.builder_of(match[1], config.data_dir), own.origin(config)
    config = dataclasses.replace(config, source="flickr8k" if name == "flickr8k" else "flickr30k")
    return flickr.builder_of(config), flickr.origin(config)
