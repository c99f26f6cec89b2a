"""All benchmarks in one go: from rows to the page, and what is said of those that fail or cannot run."""

import importlib
import shutil
import sys
from pathlib import Path

import pytest

from benchmarks.rows import Rows
from captioner_jax import bench
from captioner_jax.bench import Part
from captioner_jax.benchmark_page import Outcome, page, read

ROWS = Path(__file__).parent.parent / "benchmarks" / "rows.py"
WRITES = """
import sys
from pathlib import Path
from rows import Rows
rows = Rows(Path(sys.argv[-1]))
rows.note("of this machine")
rows.row("A table", "a task", "captioner_jax", {"best, ms": 7.0})
"""


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """One with a benchmark that measures, one that fails after a row, and one that lacks something."""
    programs = tmp_path / "benchmarks"
    programs.mkdir()
    (tmp_path / "docs").mkdir()
    shutil.copy(ROWS, programs)
    (programs / "good.py").write_text(WRITES)
    (programs / "bad.py").write_text(WRITES + "raise ValueError('two and two is five')\n")
    (programs / "bare.py").write_text(WRITES + "rows.leave_out('a wheel is missing')\n")
    parts = {name: Part(f"The {name}", (f"{name}.py",), ("--rounds", 3)) for name in ("good", "bad", "bare")}
    monkeypatch.setattr(bench, "CLONE", tmp_path)
    monkeypatch.setattr(bench, "PARTS", parts)
    return tmp_path


def written(tmp_path, fill):
    """What rows a benchmark tells, as they are read."""
    fill(Rows(tmp_path / "rows.jsonl"))
    return read((tmp_path / "rows.jsonl").read_text())


def test_rows_become_a_page(tmp_path):
    def limits(rows):
        rows.row("The limit", "reading", "a chip", {"GB/s": 20.0})
        rows.row("The limit", "multiplying", "a chip", {"GFLOP/s": 100.0})

    def captions(rows):
        rows.row(
            "Captions", "1 image", "captioner_jax", {"best, ms": 500, "MiB": 1082.4}, seconds=0.5, bytes=5e9, flops=1e9
        )
        rows.row(
            "Captions", "1 image", "another", {"best, ms": 750.0}, ratio=1.5, at_least=1.7, seconds=0.75, flops=6e10
        )
        rows.row("Captions", "1 image", "a third", {"best, ms": 40.25}, ratio=0.08, at_least=0.05)
        rows.row("Captions", "start", "captioner_jax", {}, at_most=2.0, seconds=2.5)
        rows.note("another 1.0")

    outcomes = [
        Outcome(title, "python it.py", *written(tmp_path, fill)[:2])
        for title, fill in (("The limit", limits), ("Captions", captions))
    ]
    made = page("python -m it", {"date": "today"}, outcomes)
    assert "Written by `python -m it`" in made
    assert "| date | today |\n| device | a chip |" in made
    assert "20 GB/s of weights read and\n100 GFLOP/s" in made
    assert "**Bars**: 1 met, 2 missed." in made
    table = """\
|  |  | best, ms | MiB | times as fast | bar | of the limit |
|---|---|---:|---:|---:|---:|---:|
| 1 image | captioner_jax | 500 | 1,082 |  |  | 50 % |
| 1 image | another | 750 |  | 1.50 | 1.7: **missed** | 80 % |
| 1 image | a third | 40.2 |  | 0.08 | 0.05: met |  |
| start | captioner_jax |  |  |  | 2 s: **missed** |  |

- another 1.0
"""
    assert f"## Captions\n\n    python it.py\n\n{table}" in made


def test_columns_that_nothing_fills_are_left_out(tmp_path):
    rows, *_ = written(tmp_path, lambda rows: rows.row("A", "a task", "", {"s": 1.0}, seconds=1.0, flops=1e9))
    made = page("it", {}, [Outcome("A", "it", rows)])
    assert "|  | s |\n|---|---:|\n| a task | 1 |" in made
    assert "limit" not in made


def test_half_a_line_is_not_read(tmp_path):
    def fill(rows):
        rows.note("whole")
        with open(rows.file, "a") as file:
            file.write('{"note": "ha')

    assert written(tmp_path, fill) == ([], ["whole"], None)


def test_a_benchmark_that_fails_is_named_and_the_others_are_told(clone, capfd):
    assert bench.main([]) == 1
    made = (clone / "docs" / "performance.md").read_text()
    assert "**Failed**: The bad (`python benchmarks/bad.py --rounds 3`): ValueError: two and two is five" in made
    assert "**Left out**: The bare: a wheel is missing" in made
    assert made.count("## The") == 1
    assert "## The good\n\n    python benchmarks/good.py --rounds 3\n" in made
    assert "| a task | captioner_jax | 7 |" in made
    assert "- of this machine" in made
    assert [path.name for path in (clone / "docs").iterdir()] == ["performance.md"]
    told = capfd.readouterr()
    assert "Traceback" in told.err
    assert "failed: The bad" in told.out


def test_a_contender_that_ends_before_its_time_is_named(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROWS.parent)
    generation = importlib.import_module("generation")
    monkeypatch.setattr(generation, "HERE", tmp_path)
    (tmp_path / "short.py").write_text("print({}, flush=True); input()")
    contender = generation.Contender(sys.executable, "short.py")
    with pytest.raises(SystemExit, match=r"short\.py has ended before its time"):
        contender.do(generation.Task("encode", 1))
    contender.end()
    contender.process.stdout.close()


def test_some_of_them_for_one_round_to_another_file(clone, monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    monkeypatch.setattr(bench.os, "getloadavg", lambda: (3.0, 1.0, 1.0))
    page = clone / "page.md"
    assert bench.main(["--only", "good", "bare", "--quick", "--output", str(page)]) == 0
    assert "python -m captioner_jax.bench --only good bare --quick`" in page.read_text()
    assert "benchmarks/good.py --rounds 1\n" in page.read_text()
    assert "The bad" not in page.read_text()
    assert "| OMP_WAIT_POLICY | passive: " in page.read_text()
    assert "| load when it began | 3.0: other programs ran" in page.read_text()
    assert not list((clone / "docs").iterdir())


def test_without_photographs_their_benchmark_is_left_out(clone, monkeypatch):
    monkeypatch.setattr(bench, "PARTS", {"good": bench.PARTS["good"]._replace(flickr8k=True)})
    assert bench.main([]) == 0
    assert "name Flickr8k's folder by --flickr8k" in (clone / "docs" / "performance.md").read_text()
    assert bench.main(["--flickr8k", str(clone)]) == 0
    made = (clone / "docs" / "performance.md").read_text()
    assert "    python benchmarks/good.py --rounds 3 --data.path FLICKR8K\n" in made


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--others", "nowhere/python"], "--others: nowhere/python: there is no such program"),
        (["--only", "godo"], "--only: godo: there are good, bad, bare"),
        (["--output", "nowhere/page.md"], "nowhere is no folder that can be written to"),
        (["--output", "/"], "--output / is a folder: name a file"),
        (["--flickr8k", "nowhere"], "--flickr8k nowhere: there is no such folder"),
    ],
)
def test_mistakes_are_told_before_anything_is_measured(clone, capsys, arguments, told):
    assert bench.main(arguments) == 1
    shown = capsys.readouterr()
    assert told in shown.err
    assert not shown.out


def test_without_a_clone_it_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "CLONE", tmp_path)
    assert bench.main([]) == 1
    assert "run this in a clone" in capsys.readouterr().err


@pytest.mark.parametrize("part", bench.PARTS.values(), ids=bench.PARTS)
def test_programs_are_there(part):
    assert (ROWS.parent / part.arguments[0]).is_file()
