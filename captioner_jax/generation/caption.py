"""A caption as people get it."""

from typing import NamedTuple


class Caption(NamedTuple):
    """A caption, the score it was ranked by, and its log-probability in nats."""

    text: str
    score: float
    log_p: float
