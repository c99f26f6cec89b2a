"""train.py and sample.py where the package was installed without them beside it: `captioner-jax train shapes.toml`."""

import runpy
import sys
from pathlib import Path

from captioner_jax import __version__
from captioner_jax.errors import UserError, for_people, leave

HELP = """captioner-jax train [RECIPE] [--help]      trains a captioner; without a recipe, on drawn scenes
captioner-jax sample PICTURE ... [--help]  captions pictures
captioner-jax --version

Others: python -m captioner_jax.PROGRAM --help, for evaluate, data, export, published, release, neighbours, explain"""
PACKAGE = Path(__file__).parent
# In a wheel, and in a clone.
PLACES = PACKAGE / "programs", PACKAGE.parent


@for_people
def main(arguments: list[str]) -> int:
    if arguments[:1] in (["--help"], ["-h"]):
        print(HELP)
        return 0
    if arguments[:1] == ["--version"]:
        print(f"captioner-jax {__version__}")
        return 0
    if arguments[:1] not in (["train"], ["sample"]):
        raise UserError("`captioner-jax train` or `captioner-jax sample`? Either tells with --help what it takes")
    name, *rest = arguments
    (program, *_) = [place / f"{name}.py" for place in PLACES if (place / f"{name}.py").is_file()]
    sys.argv = [f"captioner-jax {name}", *rest]
    runpy.run_path(str(program), run_name="__main__")  # which leaves with its own exit code
    return 0


def console() -> None:
    """Of the command `captioner-jax`."""
    leave(main(sys.argv[1:]))


if __name__ == "__main__":
    console()
