"""Photographs captioned, scored, and looked at in a process of its own, on however many devices it is given.

python -m tests.sharing FILE FOLDER     what came of it goes to the file, as JSON
"""

import dataclasses
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from captioner_jax import Captioner, evaluate, neighbours
from captioner_jax.config import DataConfig
from captioner_jax.data.load import load
from captioner_jax.devices import everywhere, over_images, sums_over_images
from tests.data.making import colour_folder
from tests.making import untrained

PHOTOGRAPHS = 30


def shares() -> dict[str, list[int]]:
    """The steps of each row's device, where row i of 24 is done after i + 1, and its rows; of 4 rows, these."""

    def until_done(first: Array, wanted: Array) -> tuple[Array, Array]:
        last = jax.lax.while_loop(lambda step: (step < wanted).any(), lambda step: step + 1, first)
        return jnp.full(len(wanted), last), jnp.full(len(wanted), len(wanted))

    counted, first = over_images(until_done, whole=[0]), everywhere(jnp.zeros((), jnp.int32))
    steps, rows = counted(first, np.arange(1, 25, dtype=np.int32))
    _, of_four = counted(first, np.arange(1, 5, dtype=np.int32))
    total = sums_over_images(lambda first, wanted: first + wanted.sum(), whole=[0])(first, np.ones(24, np.int32))
    return {"steps": steps.tolist(), "rows": rows.tolist(), "rows of four": of_four.tolist(), "sum": int(total)}


def found(folder: Path) -> dict:
    photographs = colour_folder(folder / "photographs", PHOTOGRAPHS)
    files = [str(photographs / f"{i:03}.jpg") for i in range(PHOTOGRAPHS)]
    data = DataConfig("folder", str(photographs), features=str(folder / "features"))
    kept, seen = (
        neighbours.look(untrained(), load(data).train, dataclasses.replace(data, features=where), 5)
        for where in (data.features, None)
    )
    captioner = Captioner(dataclasses.replace(untrained(), photographs=kept))
    written = {
        "beam": captioner.captions(files, beam=3, num_captions=2),
        "drawn": captioner.captions(files, temperature=1.0),
        "consensus": captioner.captions(files, beam=4, consensus=8, neighbours=3, good_ending=False),
        "one": captioner.captions(files[0], beam=3, num_captions=2),
        "some": captioner.captions(files[:3], beam=3, num_captions=2),
        "explained": [[captioner.explain(files[0], beam=3).caption]],
    }
    untrained().save(folder / "captioner")
    untrained(seed=4).save(folder / "another")
    asked = [str(folder / "captioner"), "--data.source", "folder", "--data.path", str(photographs), "--beam", "4"]
    asked += ["--ensemble", str(folder / "another"), "--consensus", "6", "--split", "train", "--batch-size", "5"]
    assert evaluate.main(asked) == 0
    return {
        "devices": jax.local_device_count(),
        "shares": shares(),
        "seen": [looked.seen.astype(float).tolist() for looked in (kept, seen)],
        "written": {name: [[tuple(one) for one in of_one] for of_one in its] for name, its in written.items()},
        "scores": json.loads((folder / "train" / "scores.json").read_text())["split"],
        "captions": json.loads((folder / "train" / "captions.json").read_text()),
    }


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(found(Path(sys.argv[2]))))
