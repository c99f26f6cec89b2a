"""How long it takes from starting a program to its first caption, of a captioner as large as those of generation.py.

    python benchmarks/cold_start.py [--rounds 5]

ResNet-50 and six decoder layers with random weights are written to a folder as a captioner directory and as an export
(`python -m captioner_jax.export`). Then fresh processes caption one picture with beams of 5: `sample.py` and the
export's `caption.py`, each without and with what JAX's persistent compilation cache kept of an earlier start, and an
executable that was compiled ahead of time.
"""

import argparse
import os
import pickle
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from contenders.serving import FEED_FORWARD, HEADS, LAYERS, SIDE, TOKENS, VOCABULARY, WIDTH
from flax import nnx
from PIL import Image
from rows import Rows

sys.path.insert(0, str(Path(__file__).parents[1]))
from captioner_jax import export
from captioner_jax.bundle import Bundle
from captioner_jax.config import DataConfig, EncoderConfig, ModelConfig
from captioner_jax.data.images import Preprocessing
from captioner_jax.generation.settings import Generation, make_search
from captioner_jax.generation.writing import Untrained, halves, make_asked_writer
from captioner_jax.model.captioner import Captioner
from captioner_jax.text.tokenizer import Tokenizer

ROOT = Path(__file__).parents[1]
KEPT, BAR = "sample.py, compiled before", 2.0  # seconds, as a goal
# What `captioner_jax.compilation` sets, for the programs that do without this package.
KEEP = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
# A process that has nothing to compile and nothing to trace.
AHEAD = """
import pickle, sys
import numpy as np
from jax.experimental import serialize_executable
write = serialize_executable.deserialize_and_load(*pickle.load(open(sys.argv[1] + "/ahead.pickle", "rb")))
parameters = pickle.load(open(sys.argv[1] + "/parameters.pickle", "rb"))
arguments = pickle.load(open(sys.argv[1] + "/arguments.pickle", "rb"))
print(np.asarray(write(parameters, *arguments).tokens)[0, 0])
"""


def made() -> Bundle:
    """A captioner of random weights."""
    model = ModelConfig(
        width=WIDTH,
        heads=HEADS,
        feed_forward=FEED_FORWARD,
        layers=LAYERS,
        encoder=EncoderConfig("resnet50", batch_norm="frozen"),
    )
    words = [f"word{i}" for i in range(VOCABULARY)]
    tokenizer = Tokenizer.train([" ".join(words)] * 5, DataConfig(source="folder"))
    _, parameters = nnx.split(Captioner(model, len(tokenizer), rngs=nnx.Rngs(0)))
    preprocessing = Preprocessing(SIDE, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    return Bundle(model, preprocessing, TOKENS, tokenizer, nnx.to_pure_dict(parameters), {}, {})


def ahead(captioner: Bundle, asked: Generation, folder: Path) -> None:
    """Writes what `AHEAD` reads: the executable, its parameters and one picture."""
    from jax.experimental import serialize_executable

    search = make_search(asked, captioner.tokenizer, captioner.max_length)
    write = make_asked_writer([Untrained(captioner.graphdef, captioner.preprocessing)], search)
    pixels = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    arguments = [jax.tree.map(np.asarray, captioner.parameters)], pixels, np.zeros(1, np.uint32), halves(0)
    compiled = write.lower(*arguments).compile()
    (folder / "ahead.pickle").write_bytes(pickle.dumps(serialize_executable.serialize(compiled)))
    (folder / "parameters.pickle").write_bytes(pickle.dumps(arguments[0]))
    (folder / "arguments.pickle").write_bytes(pickle.dumps(arguments[1:]))


def seconds(command: list[str], cache: Path) -> float:
    """From start to end of a process."""
    start = time.perf_counter()
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache)} | KEEP
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description="Time from start to first caption.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="a file for the results as data")
    told = parser.parse_args()
    rounds, rows = told.rounds, Rows(told.json)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        captioner, asked = made(), Generation()
        captioner.save(folder / "captioner")
        export.write(captioner, asked, ["cpu"], folder / "export")
        ahead(captioner, asked, folder)
        Image.new("RGB", (SIDE, SIDE), "green").save(folder / "picture.png")
        picture, kept, none = str(folder / "picture.png"), folder / "kept", folder / "none"
        sample = [sys.executable, str(ROOT / "sample.py"), picture, "--captioner", str(folder / "captioner")]
        exported = [sys.executable, str(folder / "export" / "caption.py"), picture]
        ways = {
            "import jax, and nothing else": ([sys.executable, "-c", "import jax; jax.devices()"], none),
            "sample.py, nothing kept": (sample, none),
            KEPT: (sample, kept),
            "export, nothing kept": (exported, none),
            "export, compiled before": (exported, kept),
            "executable ahead of time": ([sys.executable, "-c", AHEAD, str(folder)], none),
        }
        for command, cache in ways.values():
            seconds(command, cache)
        times = {way: [] for way in ways}
        for _ in range(rounds):
            for way, (command, cache) in ways.items():
                shutil.rmtree(none, ignore_errors=True)
                times[way].append(seconds(command, cache))
        rows.note(f"jax {jax.__version__}, Python {sys.version.split()[0]}; {rounds} rounds")
        print(f"\nseconds\n{'':34}{'median':>8}{'best':>8}")
        for way, of in times.items():
            print(f"{way:34}{statistics.median(of):8.2f}{min(of):8.2f}")
            median = statistics.median(of)
            figures = {"median, s": median, "best, s": min(of)}
            rows.row("Cold start", way, "", figures, at_most=BAR if way == KEPT else None, seconds=median)


if __name__ == "__main__":
    main()
