"""The shapes data set as a TensorFlow Datasets builder: drawn on first use, then read back without TensorFlow."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from captioner_jax.data.shapes.captions import captions
from captioner_jax.data.shapes.scene import PICTURE, Scene, draw, make_scene
from captioner_jax.data.source import DataSet, Example, Source

# Scenes of each split, and whether each holds a colour and shape pair that no training scene has.
SPLITS = {
    "train": (20_000, False),
    "validation": (500, False),
    "validation_held_out": (500, True),
    "test": (1_000, False),
    "test_held_out": (1_000, True),
}
CAPTIONS = 5


class Shapes(tfds.core.GeneratorBasedBuilder):
    """Scenes of one to three shapes that differ in kind, colour, size, texture and place, each with five captions."""

    VERSION = tfds.core.Version("3.0.0")  # goes up with any change of what is drawn or said

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

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return {name: self._generate_examples(name) for name in SPLITS}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        count, held_out = SPLITS[split]
        for i in range(count):
            rng = np.random.default_rng([list(SPLITS).index(split), i])
            scene = make_scene(rng, held_out=held_out)
            yield i, {"image": jpeg(scene, rng), "captions": captions(scene, rng, CAPTIONS), "scene": scene.to_json()}


def jpeg(scene: Scene, rng: np.random.Generator) -> bytes:
    """The drawn scene as a JPEG file that keeps the colours of thin lines."""
    file = io.BytesIO()
    draw(scene, rng).save(file, "JPEG", quality=95, subsampling=0)
    return file.getvalue()


class ShapesSource(Source):
    """A prepared split."""

    def __init__(self, builder: Shapes, split: str):
        self.split = split
        decoders = {"image": tfds.decode.SkipDecoding()}
        self.rows: Any = builder.as_data_source(split=split, decoders=decoders)  # pyright: ignore[reportCallIssue]

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, i: int) -> Example:
        row = self.rows[i]
        return Example(
            name=f"{self.split} {i}",
            image=row["image"],
            captions=tuple(text.decode() for text in row["captions"]),
            facts=row["scene"].decode(),
        )


def load(data_dir: str | None) -> DataSet:
    """The data set, drawn into the TensorFlow Datasets directory if it is not there yet."""
    builder = Shapes(data_dir=data_dir, file_format="array_record")
    builder.download_and_prepare()
    sources = {split: ShapesSource(builder, split) for split in SPLITS}
    return DataSet(
        train=sources["train"],
        validation={split: sources[split] for split in ("validation", "validation_held_out")},
        test={split: sources[split] for split in ("test", "test_held_out")},
    )
