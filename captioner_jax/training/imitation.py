"""Learning to see from an encoder that has learned it: its cells are foreseen beside whatever else is learned."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from captioner_jax.data.pipeline import Batch
from captioner_jax.data.views import Lesson
from captioner_jax.model.captioner import Captioner
from captioner_jax.training.step import Counts, Objective


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

    The objective L, and how far what the captioner makes of its own cells c (W is its affine map into the memory) is
    from the principal components of the teacher's cells t; B are the images that can be used. These are the hints of
    Romero et al. (2015, "FitNets: Hints for Thin Deep Nets", equation 3), but beside the task and not before it; and
    what is regressed is what the decoder reads, so that nothing is learned for the teacher alone.
    """

    own: Objective
    """L."""
    components: Components
    weight: float = dataclasses.field(metadata={"static": True})
    """Lambda."""

    def __call__(
        self, captioner: Captioner, cells: Float[Array, "B y x C"], batch: Batch, whole: Counts, key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """The sum; and its two parts, beside what L tells."""
        assert isinstance(batch.images, Lesson)
        own, told = self.own(captioner, cells, batch, whole, key)
        foreseen = captioner.contents(cells).astype(jnp.float32)
        shown = self.components.of(jnp.asarray(batch.images.cells).astype(jnp.float32))
        errors = jnp.square(foreseen - shown).mean((1, 2, 3))
        error = jnp.where(jnp.asarray(batch.usable), errors, 0.0).sum() / jnp.maximum(whole.images, 1)
        return own + self.weight * error, told | {"own_loss": own, "imitation": error}


def principal_components(cells: Float[np.ndarray, "N C"], count: int) -> Components:
    """The first `count`, scaled alike so that their variances are 1 on average (Pearson 1901; Hotelling 1933).

    Each points to where its number of greatest size is positive. Raises ValueError where the cells do not vary.
    """
    mean = cells.mean(0, dtype=np.float64)
    variances, directions = np.linalg.eigh(np.cov(cells, rowvar=False, dtype=np.float64))
    variances, directions = variances[::-1][:count], directions[:, ::-1][:, :count]
    if not variances.mean() > 0:
        raise ValueError("its cells do not vary")
    greatest = np.take_along_axis(directions, np.abs(directions).argmax(0)[None], axis=0)
    directions = directions * np.sign(greatest) / np.sqrt(variances.mean())
    return Components(jnp.asarray(mean, jnp.float32), jnp.asarray(directions, jnp.float32))
