"""Scores captions, without Java.

python -m captioner_jax.evaluate CAPTIONER [--ensemble OTHER ...] --data.path FOLDER [--split test] [--beam 5]
                                 [--consensus 30 [--neighbours 20]] [--output FOLDER]
python -m captioner_jax.evaluate score CAPTIONS REFERENCES [--against OTHERS] [--output FILE.json]

The first writes captions of a split's images and scores them; the second scores anybody's, in COCO's files or in lists
by the images' names.
"""

import dataclasses
import itertools
import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro

from captioner_jax import bundle
from captioner_jax.asked import of_captioner
from captioner_jax.bundle import Bundle
from captioner_jax.compilation import keep_compiled
from captioner_jax.config import DataConfig, NotNegative, Positive, Precision
from captioner_jax.data.caption_files import split_name
from captioner_jax.data.load import load
from captioner_jax.data.pipeline import check_captions
from captioner_jax.data.source import DataSet, Joined, Source
from captioner_jax.errors import UserError, for_people, leave, naming
from captioner_jax.evaluation.bootstrap import Interval
from captioner_jax.evaluation.coco_files import to_references, to_results
from captioner_jax.evaluation.pairs import Pairs, read_pairs
from captioner_jax.evaluation.report import compare, comparison, make_report
from captioner_jax.evaluation.split import Scores, score_split
from captioner_jax.files import write_whole
from captioner_jax.platforms import leave_out_absent_tpus
from captioner_jax.together import Together, together


@dataclass(frozen=True)
class Evaluate:
    """Captions a split's images and scores what it says of them."""

    captioner: tyro.conf.Positional[str]
    """A captioner directory, or hf://OWNER/NAME; before all options."""
    ensemble: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Another, that writes together with the first; may be given several times."""
    data: DataConfig = field(default_factory=DataConfig)
    split: str = "test"
    """Of the data set: train, validation, test, or another that it has; or all of these together."""
    beam: Positive = 5
    """Width of the search; 1 is greedy."""
    consensus: NotNegative = 0
    """Of the beam's captions takes that which is most like so many that are drawn at random; 0: the likeliest."""
    neighbours: NotNegative = 0
    """With consensus, so many photographs that look most like each one: what people wrote of them counts as much as
    what is drawn. For captioners that keep photographs (python -m captioner_jax.neighbours)."""
    precision: Precision = "float32"
    """What is computed in."""
    batch_size: Positive = 50
    """Images at a time, on all devices together."""
    output: Path | None = None
    """Folder for captions, references and scores; CAPTIONER/../SPLIT if none is named, as for the hub's one must be."""


@dataclass(frozen=True)
class Score:
    """Scores captions by what people wrote of the same images."""

    captions: tyro.conf.Positional[Path]
    """A COCO results file; or a caption for each image's name: .jsonl or .csv as of sample.py, .tsv, .txt with tabs."""
    references: tyro.conf.Positional[Path]
    """A COCO annotations file; or any file of captions that one can train on, by the images' names."""
    against: Path | None = None
    """Other captions of the same images: by how much they are surpassed, and whether that is more than chance."""
    output: Path | None = None
    """File for the scores as JSON."""


@for_people
def main(arguments: list[str]) -> int:
    program = "python -m captioner_jax.evaluate"
    if arguments[:1] == ["score"]:
        score(tyro.cli(Score, args=arguments[1:], prog=f"{program} score"))
        return 0
    leave_out_absent_tpus()
    keep_compiled()
    evaluate(*of_captioner(Evaluate, arguments, program))
    return 0


def evaluate(captioner: Bundle, options: Evaluate) -> None:
    """Writes captions.json, references.json and scores.json, and prints the table."""
    options = dataclasses.replace(options, split=split_name(options.split) or options.split)
    folder, searched = _output(options), _searched(options)
    if options.data.features is not None:
        raise UserError("data.features: captions are scored of the images themselves: leave it out")
    captioners = [captioner, *(bundle.load(bundle.found(one)) for one in options.ensemble)]
    one = together(
        captioners,
        beams=options.beam,
        consensus=options.consensus,
        neighbours=options.neighbours,
        precision=options.precision,
    )
    data = load(options.data)
    split = _split(data, options.split)
    check_captions({options.split: split})
    _make(folder)
    print(f"{data.about}; scoring {len(split)} images of {options.split}")
    scores = _scores(one, captioners, split, options)
    written = scores.written
    report = make_report(
        [one.caption for one in written],
        [one.example.captions for one in written],
        training=itertools.chain.from_iterable(data.train.captions()),
        truncated=[one.truncated for one in written],
        searched=searched,
        split=f"{options.data.source}/{options.split}",
    )
    print(report.table())
    names = [one.example.name for one in written]
    _keep(folder / "captions.json", to_results(names, [one.caption for one in written]))
    _keep(folder / "references.json", to_references(names, [one.example.captions for one in written]))
    who = {"captioners": [options.captioner, *options.ensemble]}
    _keep(folder / "scores.json", report.to_json() | {"split": scores.values} | who)
    if len(written) < len(split):
        print(f"{len(split) - len(written)} images could not be used and are not scored")
    print(f"captions, references and scores: {folder}")


def score(options: Score) -> None:
    """Prints the table, and writes it as JSON if that is asked for."""
    pairs = read_pairs(options.captions, options.references)
    report = make_report(list(pairs.captions.values()), pairs.of_these)
    print(f"{len(pairs.captions)} captions of {len(pairs.references)} images with references")
    print(report.table())
    told = report.to_json()
    if options.against is not None:
        differences = _compared(pairs, options)
        print(f"more than {options.against}, of the same images (*: more than chance):\n{comparison(differences)}")
        told["against"] = {name: interval._asdict() for name, interval in differences.items()}
    if options.output:
        _keep(options.output, told)


def _compared(pairs: Pairs, options: Score) -> dict[str, Interval]:
    """Raises UserError where the others are not of the same images."""
    assert options.against is not None
    others = read_pairs(options.against, options.references).captions
    if others.keys() != pairs.captions.keys():
        raise UserError(
            f"--against: {options.against} has captions of {len(others)} images, of which "
            f"{len(others.keys() & pairs.captions.keys())} are among the {len(pairs.captions)} in {options.captions}: "
            "both are to be of the same"
        )
    return compare(list(pairs.captions.values()), [others[image] for image in pairs.captions], pairs.of_these)


def _scores(one: Together, captioners: list[Bundle], split: Source, options: Evaluate) -> Scores:
    """As training scores, with the captioners' own length of caption."""
    data = dataclasses.replace(options.data, max_length=min(its.max_length for its in captioners))
    return score_split(
        split,
        one.known,
        captioners[0].tokenizer,
        data,
        batch_size=options.batch_size,
        sight=one.sight,
        loss_sums=one.loss_sums,
        write=one.write,
    )


def _searched(options: Evaluate) -> str:
    """The search, in a word. Raises UserError where there is nothing to choose from by consensus."""
    if options.consensus and options.beam == 1:
        raise UserError("--consensus chooses among a beam's captions, and a beam of 1 has one: take a wider one")
    if options.neighbours and not options.consensus:
        raise UserError("--neighbours helps to choose by --consensus: ask for that, too, such as 100 of --beam 20")
    parts = {"consensus": options.consensus, "neighbours": options.neighbours}
    if options.ensemble:
        parts["captioners"] = 1 + len(options.ensemble)
    search = "greedy" if options.beam == 1 else f"beam{options.beam}"
    rounded = [options.precision] if options.precision != "float32" else []
    return "-".join([search, *(f"{name}{count}" for name, count in parts.items() if count), *rounded])


def _output(options: Evaluate) -> Path:
    """The folder for what is found. Raises UserError where none is named, and the captioner lies in the hub's cache or
    in this package."""
    if options.output is not None:
        return options.output
    if options.captioner.startswith("hf://"):
        raise UserError("name a folder by --output for the scores of a captioner of the hub")
    directory = Path(options.captioner).resolve()
    if directory == bundle.RELEASED:
        raise UserError("name a folder by --output for the scores of the captioner that comes with the package")
    return directory.parent / options.split


def _make(folder: Path) -> None:
    """Before hours of work for what is to lie in it. Raises UserError where it cannot be written in."""
    with naming(folder, ": name a folder for the scores by --output"):
        folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise UserError(f"{folder} may not be written in: name a folder for the scores by --output")


def _split(data: DataSet, name: str) -> Source:
    if name == "all":
        return Joined(data.splits.values())
    if name not in data.splits:
        raise UserError(f"--split: no split {name!r}; there are {', '.join(data.splits)}, and all")
    return data.splits[name]


def _keep(file: Path, content: Any) -> None:
    with naming(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps(content, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
