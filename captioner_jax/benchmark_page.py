"""What benchmarks have measured, as a page in Markdown."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

NOTE = """\
Times are by the clock, but for "CPU": processor time of all cores, the least of the rounds, in which threads that wait
in busy loops count as busy. "Times as fast" is captioner_jax beside that row: 2 where it takes half as long, below 1
where it is slower (beside rows in bf16, in bf16, too). It is of the best rounds where these are told, since other
programs only ever add to a time."""


class Row(NamedTuple):
    """One line of a table: `figures` by heads of columns; the rest as benchmarks/rows.py describes it."""

    table: str
    task: str
    name: str
    figures: Mapping[str, float]
    ratio: float | None = None
    bar: str | None = None
    met: bool | None = None
    seconds: float | None = None
    flops: float = 0.0
    bytes: float = 0.0


class Limit(NamedTuple):
    """What the machine does in a second at most, and on which device."""

    flops: float
    bytes: float
    device: str

    def share(self, row: Row) -> float | None:
        """The least time that a row's work could take, of the time that it took; None where either is not known."""
        least = max(row.flops / self.flops, row.bytes / self.bytes)
        return least / row.seconds if row.seconds and least else None


class Outcome(NamedTuple):
    """What came of one benchmark: rows and notes, or why there are none."""

    title: str
    command: str
    rows: Sequence[Row] = ()
    notes: Sequence[str] = ()
    left_out: str | None = None
    failed: str | None = None


def read(lines: str) -> tuple[list[Row], list[str], str | None]:
    """Rows, notes and why nothing was measured, of what benchmarks/rows.py has written."""
    whole = lines[: lines.rfind("\n") + 1]  # a program that was ended may have begun another line
    told: list[dict[str, Any]] = [json.loads(line, parse_int=float) for line in whole.splitlines()]
    rows = [Row(**line) for line in told if "table" in line]
    notes = [line["note"] for line in told if "note" in line]
    return rows, notes, next((line["left_out"] for line in told if "left_out" in line), None)


def limit_of(rows: Sequence[Row]) -> Limit | None:
    """The machine's, of what benchmarks/limits.py tells."""
    figures = {head: figure for row in rows for head, figure in row.figures.items()}
    if "GFLOP/s" not in figures or "GB/s" not in figures:
        return None
    return Limit(figures["GFLOP/s"] * 1e9, figures["GB/s"] * 1e9, rows[0].name)


def page(command: str, about: Mapping[str, str], outcomes: Sequence[Outcome]) -> str:
    """The whole page; `about` tells of the machine and of versions."""
    limit = next((found for outcome in outcomes if (found := limit_of(outcome.rows))), None)
    parts = [
        "# How fast it is",
        f"Written by `{command}`; what the figures mean, and what was tried: [speed.md](speed.md).",
        _table([("", ""), *about.items(), *([("device", limit.device)] if limit else [])], "ll"),
        NOTE + _about_limit(limit),
        *_summary(outcomes),
        *[_section(outcome, limit) for outcome in outcomes if outcome.rows],
    ]
    return "\n\n".join(parts) + "\n"


def _about_limit(limit: Limit | None) -> str:
    if limit is None:
        return ""
    return f"""
"Of the limit": how much of the best time the work takes at {_spelt(limit.bytes / 1e9)} GB/s of weights read and
{_spelt(limit.flops / 1e9)} GFLOP/s in float32, whichever is slower. That is what XLA itself
comes to with large matrices, and other libraries can pass it. It is not told of other types."""


def _summary(outcomes: Sequence[Outcome]) -> list[str]:
    """Bars that are met and missed, and benchmarks without figures."""
    held = [row for outcome in outcomes for row in outcome.rows if row.met is not None]
    said = []
    if held:
        missed = sum(not row.met for row in held)
        said.append(f"**Bars**: {len(held) - missed} met, {missed} missed.")
    for outcome in outcomes:
        if outcome.failed:
            said.append(f"**Failed**: {outcome.title} (`{outcome.command}`): {outcome.failed}")
        if outcome.left_out:
            said.append(f"**Left out**: {outcome.title}: {outcome.left_out}")
    return said


def _section(outcome: Outcome, limit: Limit | None) -> str:
    tables = dict.fromkeys(row.table for row in outcome.rows)
    parts = [f"## {outcome.title}", f"    {outcome.command}"]
    for table in tables:
        rows = [row for row in outcome.rows if row.table == table]
        parts += [*([f"{table}:"] if table != outcome.title else []), _figures(rows, limit)]
    if outcome.notes:
        parts.append("\n".join(f"- {note}" for note in outcome.notes))
    return "\n\n".join(parts)


def _figures(rows: Sequence[Row], limit: Limit | None) -> str:
    """A table of those columns that any of the rows has."""
    heads = dict.fromkeys(head for row in rows for head in row.figures)
    columns = [["", *[row.task for row in rows]], ["", *[row.name for row in rows]]]
    columns += [[head, *[_spelt(row.figures.get(head)) for row in rows]] for head in heads]
    columns += [
        ["times as fast", *["" if row.ratio is None else f"{row.ratio:.2f}" for row in rows]],
        ["bar", *[_bar(row) for row in rows]],
        ["of the limit", *[_percent(limit.share(row) if limit else None) for row in rows]],
    ]
    columns = [column for column in columns if any(column[1:])]
    words = sum(not column[0] for column in columns)
    return _table(list(zip(*columns, strict=True)), "l" * words + "r" * (len(columns) - words))


def _bar(row: Row) -> str:
    return "" if row.bar is None else f"{row.bar}: {'met' if row.met else '**missed**'}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}".replace("%", " %")


def _spelt(figure: float | None) -> str:
    """To three digits, or as a whole number."""
    if figure is None:
        return ""
    return f"{figure:.3g}" if figure < 999.5 else f"{figure:,.0f}"


def _table(rows: Sequence[Sequence[str]], aligned: str) -> str:
    """A table in Markdown, whose first row are heads; columns are aligned to the left (l) or right (r)."""
    rule = "|" + "|".join("---:" if side == "r" else "---" for side in aligned) + "|"
    head, *rest = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([head, rule, *rest])
