"""The captioner that published_there.py writes, as this project reads it. python published_here.py FOLDER"""

import functools
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from held import peak_memory
from serving import TOKENS, Task, serve

sys.path.insert(0, str(Path(__file__).parents[2]))
from captioner_jax import Captioner
from captioner_jax.bundle import Bundle
from captioner_jax.pretrained.captioners import read_captioner


@functools.cache
def captioner() -> Captioner:
    found = read_captioner(sys.argv[1])
    return Captioner(Bundle(found.model, found.preprocessing, TOKENS, found.tokenizer, found.parameters, {}, {}))


def prepare(task: Task) -> Callable[[], object]:
    side = captioner().image_size
    pictures = [np.zeros((side, side, 3), np.uint8)] * task.images
    return lambda: captioner().captions(pictures, beam=task.beams, min_length=TOKENS - 1)


if __name__ == "__main__":
    serve(
        f"jax {jax.__version__}, Python {sys.version.split()[0]}, on {jax.devices()[0].device_kind}",
        prepare,
        peak_memory(),
    )
