"""How many words a captioner would know."""

from captioner_jax import bundle
from captioner_jax.config import Config
from captioner_jax.data.load import load
from captioner_jax.text.tokenizer import Tokenizer


def words(config: Config) -> int:
    """Those of `train.start`; or of the training captions, if the configuration tells where these are.

    Otherwise `data.vocabulary`, which is said. Raises UserError where what is named is not there.
    """
    data = config.data
    if config.train.start is not None:
        return len(bundle.load(bundle.found(config.train.start)).tokenizer)
    if data.tokenizer == "words" and (data.path is not None or data.source == "shapes"):
        return len(Tokenizer.train(load(data).train.captions(), data))
    if data.tokenizer == "words":
        print(f"no --data.path: {data.vocabulary:,} words are assumed (--data.vocabulary)")
    return data.vocabulary
