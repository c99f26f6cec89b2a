"""Results as data, beside the printed tables: with `--json FILE` each row and each remark is a line of JSON.

`python -m captioner_jax.bench` makes docs/performance.md of them. A line is one of

    {"table": ..., "task": ..., "name": who did it, "figures": {head of a column: number}, ...}
    {"note": a remark that belongs to the figures}
    {"left_out": why nothing was measured}

and a row may have more: `ratio`, how many times as fast captioner_jax is as this one; `bar`, what was wanted, and
`met`; `seconds`, which a bar of seconds is for, or of the best round with the `flops` and `bytes` of what was done in
it, for the share of the limit.
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn


def cores() -> int:
    """That this process may use, or where that is not told, as on macOS, all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Rows:
    """Where results go: to a file, which is begun anew, or nowhere."""

    def __init__(self, file: Path | None):
        self.file = file
        if file is not None:
            file.write_text("")

    def row(
        self,
        table: str,
        task: str,
        name: str,
        figures: Mapping[str, float],
        *,
        ratio: float | None = None,
        at_least: float | None = None,
        at_most: float | None = None,
        **work: float | None,
    ) -> None:
        """A row; `at_least` is a bar for `ratio`, `at_most` one for the seconds in `work` (seconds, flops, bytes)."""
        line: dict[str, Any] = {"table": table, "task": task, "name": name, "figures": dict(figures)}
        if ratio is not None:
            line["ratio"] = ratio
        if ratio is not None and at_least is not None:
            line |= {"bar": f"{at_least:g}", "met": ratio >= at_least}
        if at_most is not None:
            line |= {"bar": f"{at_most:g} s", "met": work["seconds"] <= at_most}
        self._write(line | {name: value for name, value in work.items() if value is not None})

    def note(self, text: str) -> None:
        """A remark, which is printed, too."""
        print(text, flush=True)
        self._write({"note": text})

    def leave_out(self, why: str) -> NoReturn:
        """Ends the program: something that it needs is not here."""
        self._write({"left_out": why})
        sys.exit(why)

    def _write(self, line: Mapping[str, Any]) -> None:
        if self.file is not None:
            with open(self.file, "a") as file:
                file.write(json.dumps(line) + "\n")
