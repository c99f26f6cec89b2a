"""Pages become HTML with formulas and code in it, and notebooks with the same cells."""

import re

import pytest

markdown, *_ = [
    pytest.importorskip(name, reason="pip install -e '.[docs]'") for name in ("markdown", "latex2mathml", "jupytext")
]

from bookbinding.extension import Bookbinding  # noqa: E402
from bookbinding.notebooks import chapters, notebook  # noqa: E402
from bookbinding.sources import ROOT  # noqa: E402

PYTHON = re.compile(r"^```python\n(.*?)\n```$", re.MULTILINE | re.DOTALL)


def html(page):
    return markdown.markdown(page, extensions=[Bookbinding(), "pymdownx.superfences"])


def test_formulas_become_mathml_and_code_does_not():
    made = html("Here $d_k$ and\n\n$$\\frac{1}{\\ln 2}$$\n\nand `$d_k$`.\n")
    assert made.count("<math") == 2
    assert made.count('display="block"') == 1
    assert "<msub><mi>d</mi><mi>k</mi></msub>" in made
    assert "<code>$d_k$</code>" in made


@pytest.mark.parametrize("page", chapters(), ids=lambda page: page.stem)
def test_no_formula_holds_what_was_not_understood(page):
    text = page.read_text(encoding="utf-8")
    formulas = re.findall(r"<math.*?</math>", html(text), re.DOTALL)
    assert len(formulas) >= text.count("\n$$\n") / 2
    for formula in formulas:
        assert not re.search(r">(?:&amp;|&#x00026;|\\)", formula), formula


def test_a_page_holds_the_lines_that_it_names():
    made = re.sub(r"<[^>]+>", "", html("```source\ncaptioner_jax.model.attention.causal_mask\n```\n"))
    assert "t = jnp.arange(length)" in made
    with pytest.raises(LookupError, match="defines no gone"):
        html("```source\ncaptioner_jax.model.attention.gone\n```\n")


def test_links_to_the_package_become_names():
    assert html("[search.py](../captioner_jax/generation/search.py), [log](log.md)") == (
        '<p>search.py, <a href="log.md">log</a></p>'
    )


@pytest.mark.parametrize("page", chapters(), ids=lambda page: page.stem)
def test_cells_are_the_blocks_that_the_tests_run(page):
    text = page.read_text(encoding="utf-8")
    made = notebook(page)
    assert [cell.source for cell in made.cells if cell.cell_type == "code"] == PYTHON.findall(text)
    assert not any("```source" in cell.source for cell in made.cells)


@pytest.mark.slow
def test_a_notebook_runs_in_jupyter():
    nbclient = pytest.importorskip("nbclient")
    made = notebook(ROOT / "docs" / "book" / "11-cider.md")
    nbclient.NotebookClient(made, timeout=120, resources={"metadata": {"path": str(ROOT)}}).execute()
    printed = [out.text for cell in made.cells if cell.cell_type == "code" for out in cell.outputs if "text" in out]
    assert "by hand 0.612\n[0.612 7.5   7.5  ]\n" in printed


def test_every_figure_is_there():
    for page in (ROOT / "docs").rglob("*.md"):
        for image in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / image).is_file(), f"{page.name}: {image}; python -m bookbinding.figures draws it"
