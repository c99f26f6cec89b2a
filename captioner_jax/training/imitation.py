"""Learning to see from an encoder that has learned it: its cells are foreseen beside whatever else is learned."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from captioner_jax.bundle import cells_shape
from captioner_jax.config import Config, DataConfig, ModelConfig, TeacherConfig, TrainConfig
from captioner_jax.data.features import Eye, Features, load_features, make_eye
from captioner_jax.data.lessons import Lessons, parts_shown
from captioner_jax.data.pictures import training_pictures
from captioner_jax.data.pipeline import Batch
from captioner_jax.data.source import Source
from captioner_jax.data.views import Lesson
from captioner_jax.errors import UserError
from captioner_jax.model.captioner import Captioner
from captioner_jax.training.beginning import begin
from captioner_jax.training.step import Counts, Objective

# Images from whose cells principal components are found.
SAMPLE = 1000


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Components:
    """The directions in which a teacher's cells vary most, as many as the memory has."""

    mean: Float[Array, " C"]
    directions: Float[Array, "C D"]

    def of(self, cells: Float[Array, "B y x C"]) -> Float[Array, "B y x D"]:
        r"""$(t - \mu) P$, whose numbers have a variance of 1 on average."""
        return (cells - self.mean[None, None, None]) @ self.directions


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Imitation:
    r"""$$L + \lambda\, \frac{1}{B S D} \sum_{b,s} \lVert W c_{bs} - (t_{bs} - \mu) P \rVert^2$$

    The objective L, and how far what the captioner makes of its own cells c (W is its map into the memory) is from
    the principal components of the teacher's cells t. These are the hints of Romero et al. (2015, "FitNets: Hints for
    Thin Deep Nets", equation 3), but that what is regressed is what the decoder reads, so that nothing is learned
    for the teacher alone.
    """

    otherwise: Objective
    """L."""
    components: Components
    weight: float = dataclasses.field(metadata={"static": True})

    def __call__(
        self, captioner: Captioner, cells: Float[Array, "B y x C"], batch: Batch, whole: Counts, key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """The sum; and the mean squared error, beside what L tells."""
        assert isinstance(batch.images, Lesson)
        loss, told = self.otherwise(captioner, cells, batch, whole, key)
        foreseen = captioner.into_memory(cells.astype(captioner.dtype)).astype(jnp.float32)
        shown = self.components.of(jnp.asarray(batch.images.cells).astype(jnp.float32))
        errors = jnp.square(foreseen - shown).mean((1, 2, 3))
        error = jnp.where(jnp.asarray(batch.usable), errors, 0.0).sum() / jnp.maximum(whole.images, 1)
        return loss + self.weight * error, told | {"imitation": error}


def principal_components(cells: Float[np.ndarray, "N C"], count: int) -> Components:
    """The first `count`, scaled alike so that their variances are 1 on average (Pearson 1901; Hotelling 1933).

    Each points to where its largest number is positive.
    """
    mean = cells.mean(0)
    variances, directions = np.linalg.eigh(np.cov(cells - mean, rowvar=False))
    variances, directions = variances[::-1][:count], directions[:, ::-1][:, :count]
    largest = np.take_along_axis(directions, np.abs(directions).argmax(0)[None], axis=0)
    directions = directions * np.sign(largest) / np.sqrt(variances.mean())
    return Components(jnp.asarray(mean, jnp.float32), jnp.asarray(directions, jnp.float32))


def make_teacher(config: Config) -> Eye | None:
    """Or nobody, where none is asked for.

    Raises UserError where its weights do not fit it, and where it cannot teach such a captioner.
    """
    teacher = config.teacher
    if not teacher.is_there:
        return None
    _check(config)
    alone = Config(
        model=ModelConfig(encoder=teacher.encoder),
        data=DataConfig(image_size=teacher.image_size),
        train=TrainConfig(encoder_frozen=True),
    )
    try:
        graphdef, state, preprocessing, _ = begin(alone, 1)
    except UserError as error:
        raise UserError(f"teacher: {error}") from error
    _check_cells(config)
    return make_eye(teacher.encoder, graphdef, state.parameters, preprocessing)


def make_lessons(config: Config, train: Source, teacher: Eye) -> Lessons:
    """Of the training images; what the teacher makes of these is made now if it is not there."""
    parts = parts_shown(config.data, config.teacher)
    taught = load_features(train, "train", parts, teacher, views=config.teacher.views)
    return Lessons(config.data, training_pictures(train, config.data), taught)


def imitating(goal: Objective, config: Config, taught: Features) -> Imitation:
    """The goal with a teacher's cells beside it."""
    cells = taught.some(SAMPLE)
    components = principal_components(cells.reshape(-1, cells.shape[-1]), config.model.width)
    return Imitation(goal, components, config.teacher.weight)


def _check(config: Config) -> None:
    """Raises UserError for settings that cannot be meant together."""
    teacher, data = config.teacher, config.data
    if teacher.encoder.weights is None:
        raise UserError("teacher: a random one has nothing to teach; name --teacher.encoder.weights")
    if data.features is not None or config.train.encoder_frozen:
        raise UserError("teacher: it is for an encoder that learns from pixels: no data.features, no encoder_frozen")
    if data.randaugment:
        raise UserError("data.randaugment: it moves what the teacher has seen elsewhere; leave it out")
    if (data.crop < 1) != (teacher.views > 1):
        raise UserError("teacher.views: the second view on are crops; name both --data.crop and more --teacher.views")


def _check_cells(config: Config) -> None:
    """Raises UserError where captioner and teacher would see unlike grids."""
    teacher, size, width = config.teacher, config.data.image_size, config.model.width
    own, taught = cells_shape(config.model, size), shape_taught(teacher)
    if own[:2] != taught[:2]:
        raise UserError(
            f"teacher.image_size: of {teacher.image_size} pixels it makes {taught[0]}x{taught[1]} cells, of "
            f"{size} the captioner makes {own[0]}x{own[1]}; they must be as many"
        )
    if taught[2] < width:
        raise UserError(f"teacher: its cells have {taught[2]} channels, too few for a model.width of {width}")


def shape_taught(teacher: TeacherConfig) -> tuple[int, ...]:
    """Height, width and channels of what a teacher makes of an image."""
    return cells_shape(ModelConfig(encoder=teacher.encoder), teacher.image_size)
