"""The shapes data set as a TensorFlow Datasets builder: drawn on first use, then read back without TensorFlow."""

import io
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from captioner_jax.config import DataConfig
from captioner_jax.data.captioned_builder import CaptionedBuilder, Origin, Row, prepare
from captioner_jax.data.shapes.captions import captions
from captioner_jax.data.shapes.scene import PICTURE, Scene, draw, make_scene
from captioner_jax.data.source import DataSet, Example, Source
from captioner_jax.data.tfds_source import TfdsSource, rows

# Scenes of each split, and whether each holds a colour and shape pair that no training scene has.
SPLITS = {
    "train": (20_000, False),
    "validation": (500, False),
    "validation_held_out": (500, True),
    "test": (1_000, False),
    "test_held_out": (1_000, True),
}
CAPTIONS = 5


class Shapes(CaptionedBuilder):
    """Scenes of one to three shapes that differ in kind, colour, size, texture and place, each with five captions."""

    VERSION = tfds.core.Version("3.0.0")  # goes up with any change of what is drawn or said

    def origin(self, manual: Path) -> Origin:
        return Origin(drawn, DataConfig())

    @staticmethod
    def row(example: Example) -> Row:
        return {"image": example.image, "captions": list(example.captions), "scene": example.facts}

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(PICTURE, PICTURE, 3), encoding_format="jpeg"),
                    "captions": tfds.features.Sequence(tfds.features.Text()),
                    "scene": tfds.features.Text(),
                }
            ),
            description=self.__doc__,
        )


class Drawing(Source):
    """A split in the making: scene i is drawn when it is asked for, always the same."""

    def __init__(self, split: str):
        self.split = split

    def __len__(self) -> int:
        return SPLITS[self.split][0]

    def read(self, i: int) -> Example:
        rng = np.random.default_rng([list(SPLITS).index(self.split), i])
        scene = make_scene(rng, held_out=SPLITS[self.split][1])
        image = jpeg(scene, rng)
        return Example(f"{self.split} {i}", image, tuple(captions(scene, rng, CAPTIONS)), scene.to_json())


def jpeg(scene: Scene, rng: np.random.Generator) -> bytes:
    """The drawn scene as a JPEG file that keeps the colours of thin lines."""
    file = io.BytesIO()
    draw(scene, rng).save(file, "JPEG", quality=95, subsampling=0)
    return file.getvalue()


def drawn(config: DataConfig) -> DataSet:
    """All scenes, drawn as they are asked for."""
    return _data_set({split: Drawing(split) for split in SPLITS})


def load(data_dir: str | None) -> DataSet:
    """The data set, drawn into the TensorFlow Datasets directory if it is not there yet."""
    builder = Shapes(data_dir=data_dir, file_format="array_record")
    prepare(builder, Origin(drawn, DataConfig()))
    return _data_set({split: TfdsSource(rows(builder, split), split, facts="scene") for split in SPLITS})


def _data_set(sources: dict[str, Source]) -> DataSet:
    return DataSet(
        train=sources["train"],
        validation={split: sources[split] for split in ("validation", "validation_held_out")},
        test={split: sources[split] for split in ("test", "test_held_out")},
        about=f"drawn scenes of shapes, version {Shapes.VERSION}, training on train ({len(sources['train']):,} images)",
    )
