"""The plan before the rent: what a run would take of TPU slices, in words and a table."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from captioner_jax.config import Config
from captioner_jax.errors import UserError
from captioner_jax.planning.ahead import Phase, compile_step, phases
from captioner_jax.planning.chips import GIB, Chip
from captioner_jax.planning.estimate import Roofline, Work
from captioner_jax.planning.program import Program, TooLarge
from captioner_jax.planning.slices import Slice, find_slices
from captioner_jax.planning.vocabulary import words
from captioner_jax.training.contradictions import check_planned
from captioner_jax.training.placement import chosen

HEAD = ("slice", "chips", "steps", "encoder", "GiB a chip", "ms a step", "images/s", "MFU", "hours", "chip-hours")
REMEDIES = (
    "where it does not fit may help: --train.accumulate, --train.remat, --devices.fsdp, --devices.model, "
    "--train.precision bfloat16, a smaller --train.batch-size, more chips"
)
LIMITS = """\
ms a step, and what follows from it, is what the chips' peaks allow: real steps are slower, and how much has not been
measured. Images that come too slowly, evaluations, checkpoints and compilation are not in it."""
BY_PARTS = """\
With train.remat what is done for each part of the logits is counted once: FLOPs, bytes and time are too few. What is
computed again counts as use in MFU."""
AGAIN = """\
With train.accumulate the optimizer's FLOPs are counted once for each part of a batch: FLOPs and time are too many."""
MIB = 2.0**20
# Collectives that are told one by one.
SHOWN = 8


class Row(NamedTuple):
    """One phase of a run on one slice."""

    slice: Slice
    chips: int
    """That are used."""
    phase: Phase
    program: Program | TooLarge


def plan(config: Config, names: str) -> None:
    """Prints that of slices, a comma between their names.

    Raises UserError where a slice is not known, the configuration cannot be placed on it, or has no plan.
    """
    _check(config)
    train, data, rows = config.train, config.data, []
    used = [(one, len(chosen(config, one.devices))) for one in find_slices(names)]
    vocabulary = words(config)
    for one, chips in used:
        for phase in phases(config):
            print(f"compiling for {one.name}, the encoder {_encoder(phase)} ...", flush=True)
            program = compile_step(config, vocabulary, one.devices, encoder_learns=phase.encoder_learns)
            rows.append(Row(one, chips, phase, program))
    print(
        f"\n{config.name}: {train.batch_size} images a step, {data.captions_per_image} captions of each, "
        f"of {data.max_length} tokens; {vocabulary:,} words; {train.steps:,} steps"
    )
    print("\n".join(details(rows[len(phases(config)) - 1])))
    print("\n" + table([HEAD, *(cells(row, train.batch_size) for row in rows)]))
    if any(isinstance(row.program, TooLarge) for row in rows):
        print("\n" + REMEDIES)
    print("\n" + limits(config))


def limits(config: Config) -> str:
    """What the table does not tell."""
    train = config.train
    return "\n".join([LIMITS, *[BY_PARTS] * train.remat, *[AGAIN] * (train.accumulate > 1)])


def details(row: Row) -> list[str]:
    """Of one program, line by line."""
    one, program = row.slice, row.program
    where = f"{one.name}, {len(one.devices)} chips on {one.hosts} hosts"
    title = f"\n{where}; a step in which the encoder {_encoder(row.phase)}"
    if isinstance(program, TooLarge):
        wanted, there = program.wanted / GIB, program.there / GIB
        return [title, f"does not fit: wants {wanted:.2f} GiB a chip, and {there:.2f} GiB are to be had"]
    return [title, *_held(program, one.chip), *_told(program.work), *_done(program, one.chip)]


def _held(program: Program, chip: Chip) -> list[str]:
    parts = [f"  {size / MIB:10,.1f} MiB  {name}" for name, size in program.memory._asdict().items()]
    whole = f"  {program.memory.whole / MIB:10,.1f} MiB  of {chip.memory / MIB:,.0f} MiB: it fits"
    return ["held by each chip:", *parts, whole]


def _told(work: Work) -> list[str]:
    shown, left = work.collectives[:SHOWN], work.collectives[SHOWN:]
    lines = [
        f"  {one.bytes * one.count / MIB:10,.1f} MiB  in {one.count} {one.kind} among {one.group}" for one in shown
    ]
    if left:
        size, count = sum(one.bytes * one.count for one in left), sum(one.count for one in left)
        lines.append(f"  {size / MIB:10,.1f} MiB  in {count} smaller ones")
    return ["told each other in a step:", *(lines or ["  nothing"])]


def _done(program: Program, chip: Chip) -> list[str]:
    work, roofline = program.work, Roofline.of(program.work, chip)
    rows = [
        (f"{work.flops / 1e9:10,.1f} GFLOP", roofline.computing, f"{chip.flops / 1e12:.0f} TFLOP/s"),
        (f"{work.bytes / 1e9:10,.2f} GB moved", roofline.moving, f"{chip.bandwidth / 1e9:,.0f} GB/s"),
        (f"{work.sent / 1e9:10,.2f} GB sent", roofline.telling, f"{chip.interconnect / 1e9:.0f} GB/s"),
    ]
    optimal = program.optimal_seconds
    estimate = "says nothing of use" if optimal is None else f"says {optimal * 1e3:.2f} ms"
    return [
        "done by each chip in a step:",
        *(f"  {amount:<21}{seconds * 1e3:10.2f} ms  at {peak}" for amount, seconds, peak in rows),
        f"  {roofline.seconds * 1e3:31.2f} ms  in all; the compiler's own estimate {estimate}",
    ]


def cells(row: Row, images: int) -> tuple[str, ...]:
    """One line of the table; `images` are those of a step."""
    known = row.slice.name, f"{row.chips}", f"{row.phase.steps:,}", _encoder(row.phase)
    if isinstance(row.program, TooLarge):
        wanted, there = row.program.wanted / GIB, row.program.there / GIB
        return (*known, f"{wanted:.2f}, has {there:.2f}", *("-" * (len(HEAD) - len(known) - 1)))
    roofline = Roofline.of(row.program.work, row.slice.chip)
    hours = row.phase.steps * roofline.seconds / 3600
    return (
        *known,
        f"{row.program.memory.whole / GIB:.2f} of {row.slice.chip.memory / GIB:.0f}",
        f"{roofline.seconds * 1e3:.2f}",
        f"{images / roofline.seconds:,.0f}",
        f"{roofline.utilisation:.0%}",
        f"{hours:.2f}",
        f"{hours * len(row.slice.devices):.1f}",  # of all that are paid for
    )


def table(rows: Sequence[Iterable[str]]) -> str:
    """In columns."""
    columns = [[*column, max(map(len, column))] for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(str(column[i]).rjust(column[-1]) for column in columns) for i in range(len(rows)))


def _check(config: Config) -> None:
    """Raises UserError where the plan would not be that of the run, or there would be none."""
    check_planned(config)
    if config.devices.parallel == "pmap":
        raise UserError("--plan: pmap compiles for devices that are there; plan --devices.parallel jit")
    if config.train.objective == "self_critical":
        raise UserError(
            "--plan: self-critical training writes word by word, and the compiler counts what is repeated once; "
            "plan the stage before it, --train.objective cross_entropy"
        )


def _encoder(phase: Phase) -> str:
    return "learns" if phase.encoder_learns else "stays"
