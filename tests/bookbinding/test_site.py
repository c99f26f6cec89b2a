"""The site as people build it and read it: from files, without a network."""

import shutil
import subprocess
import sys

import pytest

from bookbinding.sources import ROOT

pytest.importorskip("zensical", reason="pip install -e '.[docs]'")

PARTS = ("bookbinding", "captioner_jax", "docs", "experiments")


def copy(folder):
    """What the site is made from."""
    for part in PARTS:
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "*.ipynb"))
    shutil.copy(ROOT / "zensical.toml", folder)
    return folder


def build(folder):
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = copy(tmp_path_factory.mktemp("site"))
    done = build(folder)
    assert done.returncode == 0, done.stderr
    return folder / "build" / "site"


@pytest.mark.slow
def test_code_that_is_gone_stops_the_build(tmp_path):
    attention = copy(tmp_path) / "captioner_jax" / "model" / "attention.py"
    attention.write_text(attention.read_text().replace("def attention_weights(", "def shares("))
    done = build(tmp_path)
    assert done.returncode != 0
    assert "attention.py defines no attention_weights" in done.stderr


@pytest.mark.slow
def test_pages_show_formulas_and_code_and_fetch_nothing(site, open_page):
    page = open_page(f"file://{site}/index.html")
    page.click("nav >> text=3. Attention, by hand")
    formula = page.locator("math[display=block]").first
    formula.wait_for()
    assert formula.bounding_box()["height"] > 30  # a fraction within brackets
    assert "jax.nn.softmax(scores, axis=-1)" in page.inner_text("article")
    page.click("nav >> text=手算注意力")
    page.get_by_role("heading", name="三个查询，两个通道").wait_for()


@pytest.mark.slow
def test_search_finds_without_a_server(site, open_page):
    page = open_page(f"file://{site}/index.html")
    page.click(".md-search__button")
    page.keyboard.type("shattered")
    page.get_by_text("Residual blocks").first.wait_for()
