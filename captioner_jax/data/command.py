"""The commands `check` and `prepare` of python -m captioner_jax.data."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from captioner_jax.config import DataConfig
from captioner_jax.data import check, prepare
from captioner_jax.data.check import Files
from captioner_jax.errors import UserError, for_people
from captioner_jax.files import write_whole


@dataclass(frozen=True)
class Check:
    """Reads every caption and decodes every image of a data set, and says what is wrong with them.

    Ends with exit code 1 where anything cannot be used.
    """

    path: tyro.conf.Positional[Path]
    """The folder that data.path would name."""
    source: Files | None = None
    """Told by what lies there, if not given."""
    captions: str | None = None
    """Captions file, relative to the folder; found if one is."""
    images: str = "."
    """Folder or .tar of the images, relative to the folder."""
    workers: int | None = None
    """Processes that decode images; 0 decodes in this one. As many as there are processors, if not given."""
    report: Path | None = None
    """File for all that is found, not only a few examples."""


@dataclass(frozen=True)
class Prepare:
    """Makes a TensorFlow Datasets data set of ArrayRecord files, once; later runs need nothing else."""

    name: tyro.conf.Positional[str]
    """shapes, flickr8k, flickr30k, coco_captions, or captioned/NAME for a data set of your own."""
    path: str | None = None
    """Folder of the files that it is made from; shapes and coco_captions need none."""
    data_dir: str | None = None
    """TensorFlow Datasets directory, if not the usual one."""
    source: Files = "folder"
    """captioned/NAME: how the files in `path` lie."""
    captions: str | None = None
    """Captions file, relative to the path; found if one is."""
    images: str = "."
    """Folder or .tar of the images, relative to the path."""
    beam_options: str | None = None
    """Prepare by Apache Beam with these options of its pipelines: "runner=DirectRunner direct_num_workers=4"."""


@for_people
def main(arguments: list[str]) -> int:
    command = tyro.cli(
        Annotated[Check, tyro.conf.subcommand("check")] | Annotated[Prepare, tyro.conf.subcommand("prepare")],
        args=arguments,
        prog="python -m captioner_jax.data",
        description="Data sets: checked before a long run, or prepared for TensorFlow Datasets.",
    )
    return checked(command) if isinstance(command, Check) else prepared(command)


def checked(command: Check) -> int:
    if command.workers is not None and command.workers < 0:
        raise UserError(f"--workers {command.workers}: so many processes there cannot be; 0 decodes in this one")
    source = command.source or check.guess(command.path)
    config = DataConfig(source=source, path=str(command.path), captions=command.captions, images=command.images)
    workers = os.cpu_count() or 1 if command.workers is None else command.workers
    findings = check.check(config, workers)
    print(f"source: {source}; {check.table(findings)}")
    if command.report is not None:
        try:
            write_whole(command.report, check.report(findings))
        except OSError as error:
            raise UserError(f"{command.report}: {error.strerror or error}") from error
        print(f"\nall of it: {command.report}")
    return 1 if findings.unusable else 0


def prepared(command: Prepare) -> int:
    if command.name == "coco_captions":
        print(prepare.coco_captions(command.data_dir))
        return 0
    config = DataConfig(
        source=command.source,
        path=command.path,
        data_dir=command.data_dir,
        captions=command.captions,
        images=command.images,
    )
    print(prepare.ours(command.name, config, command.beam_options))
    return 0
