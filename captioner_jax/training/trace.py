"""A trace of what a few steps do, operation by operation, by JAX's profiler."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec

import jax

Arguments = ParamSpec("Arguments")
# Steps that are left out: the first compiles, and the second waits for it.
COMPILING = 2


@dataclasses.dataclass
class Trace:
    """Of `steps` steps, once those that compile are done; or of none. At its end those steps are waited for."""

    folder: Path
    """Beside TensorBoard's events, which finds it there."""
    steps: int | None
    done: int = 0

    def around(self, train_step: Callable[Arguments, Any]) -> Callable[Arguments, Any]:
        """The same step, traced when its turn comes; steps of several kinds are counted together."""
        if self.steps is None:
            return train_step
        end = COMPILING + self.steps

        def traced(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Any:
            if self.done == COMPILING:
                jax.profiler.start_trace(self.folder)
            with jax.profiler.StepTraceAnnotation("train", step_num=self.done):
                after = train_step(*args, **kwargs)
            self.done += 1
            if self.done == end:
                jax.block_until_ready(after)
                self._write()
            return after

        return traced

    def _write(self) -> None:
        jax.profiler.stop_trace()
        print(f"a trace of {self.done - COMPILING} steps: tensorboard --logdir {self.folder} (docs/watching.md)")

    def __enter__(self) -> "Trace":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """A run that ends within its trace leaves what there is."""
        if self.steps is not None and COMPILING < self.done < COMPILING + self.steps:
            self._write()
