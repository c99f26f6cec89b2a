"""Makes a captioner half as large, as those that come with the package are: its weights are rounded to bfloat16.

python -m captioner_jax.release CAPTIONER FOLDER
python -m captioner_jax.release CAPTIONER FOLDER --between OTHER --share 0.7    between two, nearer to the other
python -m captioner_jax.evaluate FOLDER --data.path DATA    what that has changed
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from annotated_types import Ge, Le

from captioner_jax import bundle
from captioner_jax.config import checked
from captioner_jax.errors import UserError, for_people, leave, naming
from captioner_jax.platforms import leave_out_absent_tpus


@dataclass(frozen=True)
class Release:
    """Writes a captioner with rounded weights."""

    captioner: tyro.conf.Positional[str]
    """A captioner directory, or hf://OWNER/NAME."""
    folder: tyro.conf.Positional[Path]
    """For the new one."""
    between: str | None = None
    """Another, that CAPTIONER was trained on from: each weight is taken between theirs, which may be best of all."""
    share: Annotated[float, Ge(0), Le(1)] | None = None
    """With --between: how much of the other is in that."""


@for_people
def main(arguments: list[str]) -> int:
    options = checked(tyro.cli(Release, args=arguments, prog="python -m captioner_jax.release"))
    if options.folder.exists():
        raise UserError(f"{options.folder} is there already: remove it, or name another folder")
    if (options.between is None) != (options.share is None):
        raise UserError("--between names the other captioner and --share how much of it: give both, or neither")
    leave_out_absent_tpus()
    captioner = bundle.load(bundle.found(options.captioner))
    if options.between is not None and options.share is not None:
        captioner = bundle.between(captioner, bundle.load(bundle.found(options.between)), options.share)
    with naming(options.folder):
        bundle.rounded(captioner).save(options.folder)
    return 0


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
