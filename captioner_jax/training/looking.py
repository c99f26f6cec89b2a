"""Looking at a captioner while it trains: how it does on validation images is told, and the best one is kept."""

from collections.abc import Mapping
from typing import NamedTuple

from captioner_jax.data.source import Source
from captioner_jax.data.views import Views
from captioner_jax.model.names import Parameters
from captioner_jax.training import hosts
from captioner_jax.training.checkpoints import Checkpoints
from captioner_jax.training.examiner import Examiner, show, values, worth
from captioner_jax.training.gallery import gallery
from captioner_jax.training.preemption import PreemptedError, Preemption
from captioner_jax.training.progress import Progress


class Look(NamedTuple):
    """By whom, at which splits, and to whom it is told."""

    examiner: Examiner
    splits: dict[str, Source]
    views: Mapping[str, Views]
    progress: Progress
    checkpoints: Checkpoints
    preemption: Preemption

    def at(self, captioner: Parameters, step: int) -> bool:
        """Scores it, and keeps it if none was better. False where a SIGTERM came before it was scored."""
        how = self.examiner.config.evaluation
        try:
            scores = self.examiner.score(self.splits, captioner, how.images, self.views, check=self.preemption.check)
        except PreemptedError:
            return False
        show(scores, how.examples)
        self.progress.write(values(scores))
        self.progress.hang(gallery(scores, how.examples))
        is_best = self.checkpoints.is_best(hosts.agreed(worth(scores["validation"], how.best)))
        if is_best and hosts.is_first():
            self.examiner.keep(captioner, values(scores), step)
        return True
