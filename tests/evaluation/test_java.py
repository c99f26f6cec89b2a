"""The official Java programs, where they are installed."""

import sys
from types import ModuleType

import pytest

from captioner_jax.evaluation import java

REFERENCES = [["a dog runs fast", "the dog is running"], ["two people in a boat", "men ride a boat"]]


@pytest.fixture
def without_java():
    """In place of that of all other tests, which takes it away."""


def test_without_java_nothing_is_computed(monkeypatch):
    monkeypatch.setattr(java.shutil, "which", lambda name: None)
    assert java.scores(["a dog"], [["a dog"]]) == {"meteor": None, "spice": None}


def test_a_program_that_fails_is_told_with_its_error(monkeypatch, caplog):
    class Fails:
        def compute_score(self, *_):
            raise OSError("no room for Java")

    for name in ("Meteor", "Spice"):
        module = ModuleType(name.lower())
        setattr(module, name, Fails)
        for known_as in (
            "pycocoevalcap",
            f"pycocoevalcap.{name.lower()}",
            f"pycocoevalcap.{name.lower()}.{name.lower()}",
        ):
            monkeypatch.setitem(sys.modules, known_as, module)
    monkeypatch.setattr(java, "available", lambda: True)
    assert java.scores(["a dog"], [["a dog"]]) == {"meteor": None, "spice": None}
    assert "meteor: OSError('no room for Java')" in caplog.text
    assert "it failed" in java.why_not()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.skipif(not java.available(), reason="Java or pycocoevalcap is not installed (extra: java)")
def test_meteor_knows_a_reference_from_other_words():
    alike = java.scores([of_image[0] for of_image in REFERENCES], REFERENCES)["meteor"]
    unlike = java.scores(["some green trees", "snow on a hill"], REFERENCES)["meteor"]
    assert alike is not None
    assert unlike is not None
    assert unlike < 0.2 < 0.9 < alike


@pytest.mark.parametrize("program", [True, False])
@pytest.mark.parametrize("package", [True, False])
def test_both_are_needed(monkeypatch, program, package):
    monkeypatch.setattr(java.shutil, "which", lambda _: "java" if program else None)
    monkeypatch.setattr(java.importlib.util, "find_spec", lambda _: object() if package else None)
    assert java.available() == (program and package)
