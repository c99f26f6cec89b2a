"""How many words a captioner would know."""

from pathlib import Path

from captioner_jax import bundle
from captioner_jax.config import Config
from captioner_jax.data.load import load
from captioner_jax.text.tokenizer import Tokenizer


def words(config: Config) -> int:
    """Those of `train.start`, if it is there yet; or of the training captions, if it is told where these are.

    Otherwise `data.vocabulary`, which is said. Raises UserError where captions are not there.
    """
    data, start = config.data, config.train.start
    if start is not None:
        if start.startswith("hf://") or Path(start).exists():
            return len(bundle.load(bundle.found(start)).tokenizer)
        print(f"no captioner in {start} yet: its words are taken to be those that would be learned without it")
    if data.tokenizer == "words" and (data.path is not None or data.source == "shapes"):
        return len(Tokenizer.train(load(data).train.captions(), data))
    if data.tokenizer == "words":
        print(f"no --data.path: {data.vocabulary:,} words are assumed (--data.vocabulary)")
    return data.vocabulary
