"""A captioner as programs that run without this package, on CPU, GPU or TPU: StableHLO of encoder and search.

python -m captioner_jax.export CAPTIONER [--platforms cpu,cuda,tpu] [--output FOLDER] [--beam 5 ...]

  encode.stablehlo   pixels uint8[B Y X 3] to memory, each decoder layer's keys and values
  search.stablehlo   memory and a number an image to ids [B K T], log-probabilities [B K] and scores [B K]
  tokenizer.json     ids to text, by the `tokenizers` library
  export.json        what else there is to know, and checksums
  caption.py         an example: picture files to captions

Weights are constants in the programs, so that a program is called with images and nothing else, and the compiler may
fold what depends on weights alone. B is left open: each size is compiled when it is first met.
"""

import dataclasses
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.export
import jax.numpy as jnp
import tyro
from flax import nnx
from jaxtyping import Array, Float, UInt8, UInt32

from captioner_jax import bundle, exported_caption
from captioner_jax.bundle import Bundle
from captioner_jax.config import Framing, validated
from captioner_jax.data.features import cells_of
from captioner_jax.errors import UserError, for_people, leave
from captioner_jax.files import sha256, whole_folder
from captioner_jax.generation.ensemble import Ensemble, Voice
from captioner_jax.generation.settings import Generation, make_search
from captioner_jax.generation.writing import halves, image_keys
from captioner_jax.model.attention import KeyValue
from captioner_jax.platforms import leave_out_absent_tpus
from captioner_jax.text.special import END

FORMAT = 1
MANIFEST = "export.json"
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
RESIZE: dict[Framing, str] = {
    "middle": "the middle square, shorter side to image_size, bicubic",
    "whole": "the whole picture, each side to image_size, bicubic",
}
# Plain pairs of keys, transposed, and values.
Memory = list[tuple[Float[Array, "B N H S"], Float[Array, "B N S H"]]]


@dataclass(frozen=True)
class Options:
    """Writes a captioner as programs that need only JAX."""

    captioner: tyro.conf.Positional[str]
    """A captioner directory, or hf://OWNER/NAME."""
    platforms: str = "cpu,cuda,tpu"
    """Where the programs are to run: some of cpu, cuda, rocm, tpu."""
    output: Path | None = None
    """The folder to write; None: export, beside the captioner directory."""
    force: bool = False
    """Write over a folder that is there."""
    generation: Annotated[Generation, tyro.conf.arg(name="")] = field(default_factory=Generation)
    """How captions are written."""


@for_people
def main(arguments: list[str]) -> int:
    options = tyro.cli(Options, args=arguments, prog="python -m captioner_jax.export")
    asked = validated(Generation, dataclasses.asdict(options.generation), "command line")
    platforms = _platforms(options.platforms)
    output = _output(options)
    leave_out_absent_tpus()
    captioner = bundle.load(bundle.found(options.captioner))
    write(captioner, asked, platforms, output)
    size = sum(file.stat().st_size for file in output.iterdir()) / 1e6
    print(f"{output}: {size:.1f} MB for {', '.join(platforms)}; try python {output / 'caption.py'} PICTURE")
    return 0


def write(captioner: Bundle, asked: Generation, platforms: Sequence[str], output: Path) -> None:
    """Writes the folder, all of it or nothing. Raises UserError for settings that cannot be had."""
    encode, search = programs(captioner, asked)
    (batch,) = jax.export.symbolic_shape("b")
    size, framing = captioner.preprocessing.image_size, captioner.preprocessing.framing
    pixels = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8)
    numbers = jax.ShapeDtypeStruct((batch,), jnp.uint32)
    memory = jax.eval_shape(encode, pixels)
    found = jax.eval_shape(search, memory, numbers)
    try:
        with whole_folder(output) as folder:
            _lower(encode, platforms, folder / "encode.stablehlo", pixels)
            _lower(search, platforms, folder / "search.stablehlo", memory, numbers)
            (folder / "tokenizer.json").write_text(captioner.tokenizer.to_json_for_others(), encoding="utf-8")
            shutil.copyfile(exported_caption.__file__, folder / "caption.py")
            manifest = {
                "format": FORMAT,
                "platforms": list(platforms),
                "jax": jax.__version__,
                "image_size": size,
                "framing": framing,
                "resize": RESIZE[framing],
                "end": END,
                "encode": {"in": [_spell(pixels)], "out": [[_spell(k), _spell(v)] for k, v in memory]},
                "search": {"in": ["what encode gives", _spell(numbers)], "out": [_spell(x) for x in found]},
                "generation": dataclasses.asdict(asked),
                "scores": captioner.scores,
                "sha256": {file.name: sha256(file) for file in sorted(folder.iterdir())},
            }
            (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{output}: {error.strerror or error}") from error


def programs(captioner: Bundle, asked: Generation) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The two functions: pixels to memory, and memory and numbers to what is found."""
    search = make_search(asked, captioner.tokenizer, captioner.max_length)
    if asked.neighbours:
        raise UserError("an export holds no photographs among which neighbours could be found: leave --neighbours out")

    def encode(pixels: UInt8[Array, "B Y X 3"]) -> Memory:
        model = nnx.merge(captioner.graphdef, captioner.parameters)
        memory = model.memory(cells_of(model, pixels, captioner.preprocessing))
        return [(layer.columns, layer.values) for layer in memory]

    def find(memory: Memory, numbers: UInt32[Array, " B"]) -> tuple[Array, Array, Array]:
        model = nnx.merge(captioner.graphdef, captioner.parameters)
        voice = Voice(model.decoder, [KeyValue(*layer) for layer in memory])
        found = search(Ensemble([voice]), image_keys(halves(asked.seed), numbers), ())
        return found.tokens, found.log_p, found.scores

    return encode, find


def _lower(program: Callable[..., Any], platforms: Sequence[str], file: Path, *shapes: Any) -> None:
    """Writes a program as StableHLO for arguments of these shapes."""
    try:
        file.write_bytes(jax.export.export(jax.jit(program), platforms=platforms)(*shapes).serialize())
    except ImportError as error:
        raise UserError("exports are written by flatbuffers: pip install 'captioner-jax[export]'") from error


def _spell(array: jax.ShapeDtypeStruct) -> str:
    return f"{array.dtype}[{' '.join(map(str, array.shape))}]"


def _platforms(asked: str) -> list[str]:
    names = [name.strip() for name in asked.split(",")]
    if unknown := [name for name in names if name not in PLATFORMS]:
        raise UserError(f"--platforms: {', '.join(unknown) or 'none'}: there are {', '.join(PLATFORMS)}")
    return names


def _output(options: Options) -> Path:
    if options.output is None and options.captioner.startswith("hf://"):
        raise UserError("name a folder by --output for what is exported of a captioner of the hub")
    if options.output is None and Path(options.captioner).resolve() == bundle.RELEASED:
        raise UserError("name a folder by --output for what is exported of the captioner that comes with the package")
    output = options.output or Path(options.captioner).absolute().with_name("export")
    if output.exists() and not options.force:
        raise UserError(f"{output} is there already: --force writes it anew")
    if output.exists() and not (output / MANIFEST).is_file():
        raise UserError(f"{output} is there already and is no export: name another folder")
    return output


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
