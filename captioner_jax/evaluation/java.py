"""METEOR and SPICE, which exist only as Java programs: through pycocoevalcap where it and Java are installed."""

import contextlib
import importlib.util
import io
import logging
import shutil
from collections.abc import Sequence

log = logging.getLogger(__name__)
WHY_NOT = "needs Java and pip install 'captioner-jax[java]'"


def available() -> bool:
    """Are Java and pycocoevalcap here?"""
    return shutil.which("java") is not None and importlib.util.find_spec("pycocoevalcap") is not None


def why_not() -> str:
    """Why a score is None, in words."""
    return "it failed, and said why above" if available() else WHY_NOT


def scores(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float | None]:
    """METEOR and SPICE of captions already cut into words, joined by spaces; None where one cannot be computed.

    Denkowski and Lavie 2014 (METEOR 1.5), Anderson et al. 2016 (SPICE, which downloads what it needs at first).
    """
    if not available():
        return {"meteor": None, "spice": None}
    from pycocoevalcap.meteor.meteor import Meteor  # pyright: ignore[reportMissingImports]
    from pycocoevalcap.spice.spice import Spice  # pyright: ignore[reportMissingImports]

    numbered = dict(enumerate(map(list, references))), {i: [c] for i, c in enumerate(candidates)}
    found: dict[str, float | None] = {}
    for name, scorer in (("meteor", Meteor), ("spice", Spice)):
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                found[name] = float(scorer().compute_score(*numbered)[0])
        except Exception as error:  # Java's or the network's, of any kind; the other scores stand
            log.warning("%s: %r", name, error)
            found[name] = None
    return found
