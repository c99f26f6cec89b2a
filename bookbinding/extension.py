"""A Markdown extension for the site: lines of the package where a page names them, and formulas as MathML.

Browsers draw MathML themselves: no script, nothing fetched, and screen readers read it.
"""

import html
import re
from typing import Any

import latex2mathml.converter
from markdown import Extension, Markdown
from markdown.postprocessors import Postprocessor
from markdown.preprocessors import Preprocessor

from bookbinding.sources import with_sources

# To what the site does not hold.
LINK_OUT = re.compile(r"\[([^\]]+)\]\((?:\.\./)+(?:captioner_jax|configs|tests)/[^)]+\)")
# What pymdownx.arithmatex makes of $...$ and $$...$$.
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
FUNCTION = re.compile(r"(<mi>(?:ln|log|sin|cos)</mi>)(?!<mo)")


class Sources(Preprocessor):
    """Before anything else looks at fenced blocks. Of a link to a file of the package its name stays."""

    def run(self, lines: list[str]) -> list[str]:
        return LINK_OUT.sub(r"\1", with_sources("\n".join(lines))).split("\n")


class Formulas(Postprocessor):
    """After all is HTML."""

    def run(self, text: str) -> str:
        return FORMULA.sub(lambda found: mathml(html.unescape(found[2]), is_block=found[1] == "div"), text)


def mathml(tex: str, *, is_block: bool) -> str:
    """A formula in LaTeX as MathML, with what the converter leaves out: the gap of "ln 2", norms' bars of one size."""
    made = latex2mathml.converter.convert(tex.strip(), display="block" if is_block else "inline")
    return FUNCTION.sub(r'\1<mspace width="0.17em"/>', made).replace("<mo>&#x02016;", '<mo stretchy="false">&#x02016;')


class Bookbinding(Extension):
    """Both."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802
        md.registerExtensions(["pymdownx.arithmatex"], {"pymdownx.arithmatex": {"generic": True}})
        md.preprocessors.register(Sources(md), "sources", 40)
        md.postprocessors.register(Formulas(md), "formulas", 0)


def makeExtension(**options: Any) -> Bookbinding:  # noqa: N802
    """What Python-Markdown asks a module for."""
    return Bookbinding(**options)
