"""Every `python` block of a page is run, from top to bottom; a `text` block after one is what it prints.

Those in Chinese hold the same blocks (tests/test_documentation.py).
"""

import contextlib
import io

from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser

OUTPUT = "what the last block printed"


def run(example: Example) -> None:
    """The block, in the names of those above it."""
    code = compile("\n" * example.line + example.parsed, example.path, "exec")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(code, example.namespace)
    example.namespace[OUTPUT] = printed.getvalue()


def check(example: Example) -> str | None:
    """Is this what was printed?"""
    printed = example.namespace[OUTPUT].strip()
    claimed = example.parsed.strip()
    return None if printed == claimed else f"the page says\n\n{claimed}\n\nand the code prints\n\n{printed}"


pytest_collect_file = Sybil(
    parsers=[CodeBlockParser("python", run), CodeBlockParser("text", check)], pattern="*.md", excludes=["zh/*.md"]
).pytest()
