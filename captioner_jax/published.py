"""Makes a captioner directory of a captioner that others published: a Vision Transformer with GPT-2, or BLIP.

python -m captioner_jax.published hf://OWNER/NAME FOLDER    of the Hugging Face hub, as transformers keeps them
python -m captioner_jax.published DOWNLOADED FOLDER         or of a folder with the same files
python sample.py photos/ --captioner FOLDER                 and all else that captioners are for

    hf://nlpconnect/vit-gpt2-image-captioning    hf://Salesforce/blip-image-captioning-base    ...-large
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from annotated_types import Ge, Le

from captioner_jax.bundle import Bundle
from captioner_jax.config import checked
from captioner_jax.errors import UserError, for_people, leave, naming
from captioner_jax.model.bert import PLACES
from captioner_jax.platforms import leave_out_absent_tpus
from captioner_jax.pretrained.captioners import read_captioner


@dataclass(frozen=True)
class Options:
    """Makes a captioner directory of a published captioner."""

    captioner: tyro.conf.Positional[str]
    """A folder as transformers writes them, or hf://OWNER/NAME[@REVISION]."""
    folder: tyro.conf.Positional[Path]
    """For the captioner directory."""
    max_length: Annotated[int, Ge(2), Le(PLACES)] = 32
    """The longest caption that it will write, in tokens, the end included."""


@for_people
def main(arguments: list[str]) -> int:
    options = checked(tyro.cli(Options, args=arguments, prog="python -m captioner_jax.published"))
    if options.folder.exists():
        raise UserError(f"{options.folder} is there already: remove it, or name another folder")
    leave_out_absent_tpus()
    found = read_captioner(options.captioner)
    name = named(options.captioner)
    is_hub = options.captioner.startswith("hf://")
    training = {"run": name, "published": found.origin if is_hub else name}  # nobody's paths
    made = Bundle(found.model, found.preprocessing, options.max_length, found.tokenizer, found.parameters, {}, training)
    with naming(options.folder):
        made.save(options.folder)
    print(f"{options.folder}: {found.model.encoder.kind} and {found.model.decoder}, of {found.origin}")
    return 0


def named(captioner: str) -> str:
    """What the captioner is called: its repository, or its folder."""
    if captioner.startswith("hf://"):
        return captioner.removeprefix("hf://").partition("@")[0].split("/")[1]
    path = Path(captioner).resolve()
    return path.name if path.is_dir() else path.parent.name


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
