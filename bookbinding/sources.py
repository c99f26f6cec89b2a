"""The lines of this repository that a page names, looked up when the page is made, so that they cannot drift.

A page names symbols in a fenced block, a dotted name a line:

    ```source
    captioner_jax.model.attention.attention_weights
    ```
"""

import ast
import re
import textwrap
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```source\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Lines(NamedTuple):
    """Where a symbol is defined, and its code without its docstring."""

    file: Path
    """Relative to the repository."""
    first: int
    last: int
    code: str


def with_sources(page: str) -> str:
    """The page with code in place of names. Raises LookupError where there is no such symbol any more."""
    return BLOCK.sub(lambda block: _fenced([find(name) for name in block[1].split()]), page)


def find(name: str) -> Lines:
    """The definition of a function, class, method or constant by its dotted name.

    Raises LookupError where there is none.
    """
    file, symbols = _file_of(name)
    text = (ROOT / file).read_text(encoding="utf-8")
    definition: ast.AST = ast.parse(text)
    for symbol in symbols:
        inner = [statement for statement in ast.iter_child_nodes(definition) if symbol in _names(statement)]
        if not inner:
            raise LookupError(f"{name}: {file} defines no {symbol}. Name in the page what took its place.")
        definition = inner[-1]
    first, last = _extent(definition)
    kept = set(range(first, last + 1)) - _docstrings(definition)
    lines = text.splitlines()
    return Lines(file, first, last, textwrap.dedent("\n".join(lines[number - 1] for number in sorted(kept))))


def _file_of(name: str) -> tuple[Path, list[str]]:
    """The module's file, and what of the name is left for within it."""
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        file = Path(*parts[:length]).with_suffix(".py")
        if (ROOT / file).is_file():
            return file, parts[length:]
    raise LookupError(f"{name}: no module of that name here. Name in the page what took its place.")


def _names(statement: ast.AST) -> list[str]:
    """What a statement defines."""
    match statement:
        case ast.FunctionDef() | ast.ClassDef():
            return [statement.name]
        case ast.Assign():
            return [target.id for target in statement.targets if isinstance(target, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
        case _:
            return []


def _extent(statement: ast.AST) -> tuple[int, int]:
    """Its first line, decorators included, and its last."""
    nodes = [statement, *getattr(statement, "decorator_list", [])]
    lines = [number for node in nodes for number in (node.lineno, node.end_lineno)]
    return min(lines), max(lines)


def _docstrings(statement: ast.AST) -> set[int]:
    """The lines of all docstrings within a definition, each with the empty line after it."""
    lines = set()
    for inner in ast.walk(statement):
        if isinstance(inner, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(inner) is not None:
            first, last = _extent(inner.body[0])
            after = _extent(inner.body[1])[0] if len(inner.body) > 1 else last + 1
            lines |= set(range(first, after))
    return lines


def _fenced(found: list[Lines]) -> str:
    """One block; `py`, since notebooks run what is marked `python`."""
    places = {str(lines.file): [] for lines in found}
    for lines in found:
        places[str(lines.file)].append(f"{lines.first}-{lines.last}")
    title = "; ".join(f"{file}, lines {', '.join(ranges)}" for file, ranges in places.items())
    code = "\n\n".join(lines.code for lines in found)
    return f'```py title="{title}"\n{code}\n```'
