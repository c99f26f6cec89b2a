"""Pages get the lines that Python itself runs."""

import ast
import importlib
import inspect
import textwrap

import pytest

from bookbinding.sources import BLOCK, ROOT, find, with_sources

NAMED = sorted(
    {
        name
        for page in (ROOT / "docs").rglob("*.md")
        for block in BLOCK.finditer(page.read_text(encoding="utf-8"))
        for name in block[1].split()
    }
)


def imported(name):
    """The object by Python's own look-up."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return inspect.unwrap(found)
    raise ModuleNotFoundError(name)


def without_docstrings(code):
    tree = ast.parse(textwrap.dedent(code))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            del node.body[0]
    return ast.dump(tree)


def test_pages_name_many():
    assert len(NAMED) > 40


@pytest.mark.parametrize("name", NAMED)
def test_lines_are_those_that_python_finds(name):
    assert without_docstrings(find(name).code) == without_docstrings(inspect.getsource(imported(name)))


def test_a_symbol_that_is_gone_stops_the_page():
    with pytest.raises(LookupError, match=r"attention.py defines no gone"):
        with_sources("```source\ncaptioner_jax.model.attention.gone\n```\n")
    with pytest.raises(LookupError, match=r"no module of that name"):
        with_sources("```source\nelsewhere.gone\n```\n")


def test_the_rest_of_a_page_stays():
    page = "# A\n\n```python\nprint(1)\n```\n\n```source\ncaptioner_jax.model.convnet.OPPONENT\n```\n\nB\n"
    made = with_sources(page)
    assert made.startswith("# A\n\n```python\nprint(1)\n```\n\n```py title=")
    assert made.endswith("\n```\n\nB\n")
    assert "OPPONENT = np.array" in made
