"""What the documents tell people to type can be typed, and says the same in both languages."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$|((?:^    [^\n]*\n|^\n(?=    ))+)", re.MULTILINE | re.DOTALL)
PROGRAM = re.compile(r"python ((?:-m )?(?:train\.py|sample\.py|captioner_jax\.\w+|experiments[\w.]*))")
SUBCOMMANDS = ("check", "prepare", "score")


def blocks(text):
    """All blocks of code, fenced or indented, as what they are marked with and what they hold."""
    return [(found[1] or "", (found[2] or found[3]).strip("\n")) for found in BLOCK.finditer(text)]


def commands(text):
    """Blocks that tell what to type."""
    return [code for _, code in blocks(text) if re.search(r"^ *(python|pip|find|from) ", code, re.MULTILINE)]


def tree(text):
    """The names in the overview of the repository."""
    lines = re.search(r"^captioner_jax/\n.*?(?=^```)", text, re.MULTILINE | re.DOTALL)[0].splitlines()
    return [re.split(r"(?<=\S)  +", line)[0] for line in lines]


def programs():
    """Of each program that any page calls with options, these, by page."""
    asked = {}
    for page in PAGES:
        for _, code in blocks(page.read_text(encoding="utf-8")):
            for line in code.replace("\\\n", " ").splitlines():
                if found := PROGRAM.search(line):
                    rest = line[found.end() :].split()
                    program = (*found[1].split(), *[word for word in rest[:1] if word in SUBCOMMANDS])
                    if options := re.findall(r"--[a-z][\w.-]*", line[found.end() :]):
                        asked.setdefault(program, {}).setdefault(page.name, set()).update(options)
    return asked


@pytest.mark.slow
@pytest.mark.parametrize("program", programs(), ids=" ".join)
def test_options_in_the_documents_exist(program):
    shown = subprocess.run([sys.executable, *program, "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    known = set(re.findall(r"--[a-z][\w.-]*", shown.stdout))
    for page, options in programs()[program].items():
        unknown = {option for option in options if option.replace("_", "-") not in known}
        assert not unknown, f"{page} tells people to type {unknown}, which {' '.join(program)} does not take"


def test_both_readmes_hold_the_same_commands():
    ours, chinese = (commands((ROOT / name).read_text(encoding="utf-8")) for name in ("README.md", "README.zh-CN.md"))
    for ours_one, chinese_one in zip(ours, chinese, strict=False):
        assert chinese_one == ours_one, "copy this block of README.md to its place in README.zh-CN.md"
    assert len(chinese) == len(ours), "README.md and README.zh-CN.md differ in their number of blocks with commands"


def test_both_readmes_show_the_same_tree():
    ours, chinese = (tree((ROOT / name).read_text(encoding="utf-8")) for name in ("README.md", "README.zh-CN.md"))
    assert chinese == ours, "bring the tree in README.zh-CN.md up to that in README.md"


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "zh").glob("*.md")), ids=lambda page: page.name)
def test_chinese_chapters_hold_the_same_code(page):
    original = ROOT / "docs" / "book" / page.name
    ours, chinese = (blocks(text.read_text(encoding="utf-8")) for text in (original, page))
    assert chinese == ours, f"copy the code blocks of {original.name} to their places in docs/zh/{page.name}"
