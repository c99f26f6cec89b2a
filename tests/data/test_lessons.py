"""Lessons: a teacher's cells are those of the pixels beside them."""

import dataclasses
import pickle

import numpy as np
import pytest
from PIL import Image

from captioner_jax.config import DataConfig, TeacherConfig
from captioner_jax.data.features import Eye, load_features
from captioner_jax.data.folder import load
from captioner_jax.data.images import ImageError
from captioner_jax.data.lessons import Lessons, parts_shown
from captioner_jax.data.pictures import training_pictures
from tests.data.making import encoded

# A teacher that sees twice as well as the captioner, and tells of each of 4x4 cells its mean colour.
TEACHER = TeacherConfig(image_size=32, views=6)
IMAGES = 10


def pooled(pixels):
    """Mean colours of 4x4 cells."""
    batch, side = pixels.shape[0], pixels.shape[1] // 4
    return pixels.reshape(batch, 4, side, 4, side, 3).mean((2, 4))


@pytest.fixture
def config(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    lines = ["image,caption,split"]
    for i in range(IMAGES):
        coarse = Image.fromarray(rng.integers(0, 255, (4, 5, 3), dtype=np.uint8))
        file = encoded(coarse.resize((500, 400), Image.Resampling.BICUBIC), "JPEG", quality=95)
        (folder / f"{i}.jpg").write_bytes(file if i != 7 else b"no image")
        lines.append(f"{i}.jpg,a thing,{'train' if i < 8 else 'validation' if i == 8 else 'test'}")
    (folder / "captions.csv").write_text("\n".join(lines))
    return DataConfig("folder", str(folder), image_size=16, flip=True, crop=0.4)


def lessons_of(config, tmp_path):
    """JPEGs come at unlike reduced sizes for teacher and captioner; from the cache scaled once more."""
    source = load(config).train
    teacher = dataclasses.replace(TEACHER, features=str(tmp_path / "features"))
    parts = parts_shown(config, teacher)
    taught = load_features(source, "train", parts, Eye(pooled, "pooled"), views=teacher.views)
    return Lessons(config, training_pictures(source, config), taught)


def drawn(lessons, i, mirror, count=80):
    rng = np.random.default_rng(0)
    return [lessons.training(i, mirror, rng) for _ in range(count)]


@pytest.mark.parametrize(("mirror", "cache"), [(True, False), (False, False), (True, True)])
def test_a_teacher_tells_of_the_pixels_beside_it(config, tmp_path, mirror, cache):
    """No other lesson's cells fit its pixels as well as its own; all views are drawn, and no more."""
    config = dataclasses.replace(config, cache=str(tmp_path / "cache") if cache else None)
    some = drawn(lessons_of(config, tmp_path), 2, mirror)
    seen = pooled(np.stack([one.pixels for one in some]).astype(float))
    told = np.stack([one.cells for one in some]).astype(float)
    distances = np.abs(seen[:, None] - told[None]).mean((2, 3, 4))
    different = {one.cells.tobytes() for one in some}
    assert len(different) == (2 if mirror else 1) * TEACHER.views
    assert distances.diagonal().max() < 3 < 20 < np.median(distances)  # of 255
    nearest = [some[i].cells.tobytes() for i in distances.argmin(1)]
    assert nearest == [one.cells.tobytes() for one in some]


def test_colours_change_for_the_captioner_alone(config, tmp_path):
    plain = lessons_of(config, tmp_path)
    coloured = lessons_of(dataclasses.replace(config, jitter=0.5), tmp_path)
    cells = {one.cells.tobytes() for one in drawn(plain, 3, True)}
    assert {one.cells.tobytes() for one in drawn(coloured, 3, True)} <= cells
    pixels = [{one.pixels.tobytes() for one in drawn(lessons, 3, True)} for lessons in (plain, coloured)]
    assert len(pixels[0]) == len(cells)
    assert len(pixels[1]) > 70


def test_what_is_of_no_use_is_said_and_the_rest_travels(config, tmp_path):
    lessons = pickle.loads(pickle.dumps(lessons_of(config, tmp_path)))
    with pytest.raises(ImageError, match="not an image"):
        lessons.training(7, True, np.random.default_rng(0))
    one, nothing = lessons.training(0, True, np.random.default_rng(0)), lessons.nothing()
    assert [x.shape for x in one] == [x.shape for x in nothing]
    assert [x.dtype for x in one] == [x.dtype for x in nothing]
    source = lessons.pictures.source
    whole = lessons.evaluation(1, source[1])
    np.testing.assert_allclose(pooled(whole.pixels[None].astype(float))[0], whole.cells, atol=6)
