"""A teacher, and what it makes of the training images."""

import io
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from captioner_jax.bundle import abstract
from captioner_jax.config import Config, DataConfig, ModelConfig, TeacherConfig, TrainConfig
from captioner_jax.data.features import Eye, Features, load_features, make_eye
from captioner_jax.data.lessons import Lessons, parts_shown
from captioner_jax.data.pictures import training_pictures
from captioner_jax.data.source import Source
from captioner_jax.errors import UserError
from captioner_jax.files import write_bytes_whole
from captioner_jax.training import hosts
from captioner_jax.training.beginning import begin
from captioner_jax.training.contradictions import check_settings
from captioner_jax.training.imitation import Components, Imitation, principal_components
from captioner_jax.training.step import Objective

# Cells from which principal components are found.
SAMPLE = 40_000


class Teacher(NamedTuple):
    """How it sees, and where it is from."""

    eye: Eye
    about: str


class Taught(NamedTuple):
    """What a captioner learns from a teacher."""

    lessons: Lessons
    components: Components

    def beside(self, goal: Objective, weight: float) -> Imitation:
        """A goal, and imitation besides; the same on all hosts."""
        return Imitation(goal, hosts.of_first(self.components), weight)


def make_teacher(config: Config) -> Teacher | None:
    """Or nobody, where none is asked for.

    Raises UserError where its weights do not fit it, and where it cannot teach such a captioner.
    """
    check_teacher(config)
    teacher = config.teacher
    if not teacher.is_there:
        return None
    if teacher.encoder.weights is None:
        raise UserError("teacher: a random one has nothing to teach; name --teacher.encoder.weights")
    alone = Config(
        model=ModelConfig(encoder=teacher.encoder),
        data=DataConfig(image_size=teacher.image_size),
        train=TrainConfig(encoder_frozen=True),
    )
    try:
        check_settings(alone)
        its = begin(alone, 1)
    except UserError as error:
        raise UserError(f"teacher: {error}".replace("model.encoder", "teacher.encoder")) from error
    return Teacher(make_eye(teacher.encoder, its.graphdef, its.state.parameters, its.preprocessing), its.encoder)


def teach(config: Config, train: Source, teacher: Teacher) -> Taught:
    """Of the training images; what the teacher makes of these is made now if it is not there.

    Raises UserError where it cannot be kept, or where what is there is of something else.
    """
    pictures = training_pictures(train, config.data)
    parts = parts_shown(config.data, config.teacher)
    taught = load_features(train, "train", parts, teacher.eye, views=config.teacher.views, setting="teacher.features")
    return Taught(Lessons(config.data, pictures, taught), _components(taught, config.model.width))


def check_teacher(config: Config) -> None:
    """Raises UserError for settings that cannot be meant together."""
    teacher, data, train = config.teacher, config.data, config.train
    if not teacher.is_there:
        if teacher != TeacherConfig():
            raise UserError("teacher: what it makes of images is kept in a folder; name it with --teacher.features")
        return
    if teacher.encoder.kind == "convnet":
        raise UserError("teacher: no weights are published for convnet; name a --teacher.encoder.kind")
    if teacher.encoder.frozen_stages or teacher.encoder.batch_norm == "trained":
        raise UserError("teacher: all of it stays as it is; leave out its frozen_stages and batch_norm")
    if data.features is not None or train.encoder_frozen or train.encoder_from >= train.steps:
        raise UserError("teacher: it is for an encoder that learns from pixels, and here it does not")
    if config.model.decoder != "plain":
        raise UserError("teacher: it is for encoders whose cells are led into a memory, not for published captioners")
    if data.randaugment:
        raise UserError("data.randaugment: it moves elsewhere what the teacher has seen; leave it out")
    if (data.crop < 1) != (teacher.views > 1):
        raise UserError("teacher.views: the second view on are crops; name both --data.crop and more --teacher.views")
    _check_cells(config)


def _check_cells(config: Config) -> None:
    """Raises UserError where captioner and teacher would see unlike grids."""
    teacher, size, width = config.teacher, config.data.image_size, config.model.width
    own, taught = _cells_shape("model", config.model, size), shape_taught(teacher)
    if own[:2] != taught[:2]:
        raise UserError(
            f"teacher.image_size: of {teacher.image_size} pixels it makes {taught[0]}x{taught[1]} cells, of "
            f"{size} the captioner makes {own[0]}x{own[1]}; they must be as many"
        )
    if taught[2] < width:
        raise UserError(f"teacher: its cells have {taught[2]} channels, too few for a model.width of {width}")


def shape_taught(teacher: TeacherConfig) -> tuple[int, ...]:
    """Height, width and channels of what a teacher makes of an image. Raises UserError where it cannot be built."""
    return _cells_shape("teacher", ModelConfig(encoder=teacher.encoder), teacher.image_size)


def _cells_shape(section: str, model: ModelConfig, image_size: int) -> tuple[int, ...]:
    try:
        graphdef, parameters = abstract(model, 1)
        pixels = jax.ShapeDtypeStruct((1, image_size, image_size, 3), np.float32)
        return jax.eval_shape(lambda p, x: nnx.merge(graphdef, p).see(x), parameters, pixels).shape[1:]
    except (ValueError, TypeError) as error:
        raise UserError(f"{section}: {error}") from error


def _components(taught: Features, count: int) -> Components:
    """Kept beside the cells, since other machines might round them otherwise, and a run that goes on wants the same."""
    file = taught.folder / f"components-{count}.npz"
    try:
        if not file.exists():
            _write(file, principal_components(taught.sample(SAMPLE), count))
        with np.load(file) as kept:
            return Components(jnp.asarray(kept["mean"]), jnp.asarray(kept["directions"]))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"teacher.features: {file}: {error}") from error


def _write(file: Path, components: Components) -> None:
    whole = io.BytesIO()
    np.savez(whole, mean=components.mean, directions=components.directions)
    write_bytes_whole(file, whole.getvalue())
