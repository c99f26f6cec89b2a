"""Each chapter as a notebook beside it, with the package's lines in it, to be opened in Jupyter and run on a CPU.

python -m bookbinding.notebooks
"""

from pathlib import Path

import jupytext
import nbformat

from bookbinding.sources import ROOT, with_sources

KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}


def chapters() -> list[Path]:
    """All pages that hold code to be run."""
    pages = sorted((ROOT / "docs").rglob("*.md"))
    return [page for page in pages if "\n```python\n" in page.read_text(encoding="utf-8")]


def notebook(page: Path) -> nbformat.NotebookNode:
    """A page's `python` blocks are its cells, everything else is text between them, commands of the shell as well."""
    text = with_sources(page.read_text(encoding="utf-8")).replace("\n```bash\n", "\n```console\n")
    made = jupytext.reads(text, fmt="md")
    made.metadata["kernelspec"] = KERNEL
    return made


if __name__ == "__main__":
    for page in chapters():
        nbformat.write(notebook(page), page.with_suffix(".ipynb"))
        print(page.with_suffix(".ipynb").relative_to(ROOT))
