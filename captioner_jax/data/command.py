"""The commands `check` and `prepare` of python -m captioner_jax.data."""

import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated

import tyro

from captioner_jax.config import DataConfig, SplitFiles
from captioner_jax.data import check, prepare
from captioner_jax.errors import UserError, for_people, naming
from captioner_jax.files import write_whole


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the files of a data set lie, and which of them are for what."""

    captions: str | None = None
    """Captions file, relative to the folder; found if one is."""
    images: str = "."
    """Folder or .tar of the images, relative to the folder."""
    splits: SplitFiles = field(default_factory=SplitFiles)
    held_out: float = 0.1
    """Where no splits are given: share of the images for validation, and again for test."""
    restval: bool = True
    """Karpathy's JSON: train on its train and restval; or on his train alone."""

    def of(self, source: check.Files, path: str | None, data_dir: str | None = None) -> DataConfig:
        """As training has them. Raises UserError for a share that cannot be."""
        if not 0 < self.held_out < 0.5:
            raise UserError(f"--held-out {self.held_out}: wanted is a share above 0 and below 0.5")
        shared = {each.name: getattr(self, each.name) for each in fields(Layout)}
        return DataConfig(source=source, path=path, data_dir=data_dir, **shared)


@dataclass(frozen=True, kw_only=True)
class Check(Layout):
    """Reads every caption and decodes every image of a data set, and says what is wrong with them.

    Ends with exit code 1 where anything cannot be used.
    """

    path: tyro.conf.Positional[Path]
    """The folder that data.path would name."""
    source: check.Files | None = None
    """Told by what lies there, if not given."""
    workers: int | None = None
    """Processes that decode images; 0 decodes in this one. As many as there are processors, if not given."""
    report: Path | None = None
    """File for all that is found, not only a few examples."""


@dataclass(frozen=True, kw_only=True)
class Prepare(Layout):
    """Makes a TensorFlow Datasets data set of ArrayRecord files, once; later runs need nothing else."""

    name: tyro.conf.Positional[str]
    """shapes, flickr8k, flickr30k, coco_captions, or captioned/NAME for a data set of your own."""
    path: str | None = None
    """Folder of the files that it is made from; shapes and coco_captions need none."""
    data_dir: str | None = None
    """TensorFlow Datasets directory, if not the usual one."""
    source: check.Files = "folder"
    """captioned/NAME: how the files in `path` lie."""
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
    source = command.source or ("folder" if command.splits != SplitFiles() else check.guess(command.path))
    config = command.of(source, str(command.path))
    workers = os.cpu_count() or 1 if command.workers is None else command.workers
    findings = check.check(config, workers)
    print(f"source: {source}; {check.table(findings)}")
    if command.report is not None:
        with naming(command.report):
            write_whole(command.report, check.report(findings))
        print(f"\nall of it: {command.report}")
    return 1 if findings.unusable else 0


def prepared(command: Prepare) -> int:
    if command.name == "coco_captions":
        print(prepare.coco_captions(command.data_dir))
        return 0
    config = command.of(command.source, command.path, command.data_dir)
    print(prepare.ours(command.name, config, command.beam_options))
    return 0
