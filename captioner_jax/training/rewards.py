"""What a caption that the captioner wrote is worth. A reward is any pytree that is called so:

reward(tokens, images) -> rewards     of K captions [B K T] (END, then PAD) for each of B training images, by number
"""

import dataclasses
import functools
from typing import Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, Float, Float32, Int

from captioner_jax.config import SelfCriticalConfig
from captioner_jax.data.shapes.scene import Scene
from captioner_jax.data.shapes.truth import judge
from captioner_jax.data.source import Source
from captioner_jax.errors import UserError
from captioner_jax.evaluation.compiled_bleu import sentence_bleu_4
from captioner_jax.evaluation.compiled_cider import CompiledCiderD
from captioner_jax.text.special import END
from captioner_jax.text.tokenizer import Tokenizer


@runtime_checkable
class Reward(Protocol):
    """Of captions; the greater the better."""

    def __call__(self, tokens: Int[Array, "B K T"], images: Int[Array, " B"]) -> Float[Array, "B K"]: ...


def make_reward(config: SelfCriticalConfig, train: Source, tokenizer: Tokenizer) -> Reward:
    """As configured. Raises UserError where nobody knows what is true of the images."""
    if config.reward == "cider_d":
        return CiderDReward.of(train, tokenizer, config.bleu_4)
    if train[0].facts is None:
        raise UserError("self_critical.reward: nobody knows what is true of these images; take cider_d")
    return TruthReward(train, tokenizer)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CiderDReward:
    """CIDEr-D against the captions of the training images, whose document frequencies count, and BLEU-4 if it weighs.

    END is a word of all of them, so that a caption that stops after "with a" has fewer n-grams of people's than one
    that comes to an end. Words that the captioner does not know are told apart, as they are in an evaluation.
    """

    scorer: CompiledCiderD
    bleu_4: float = dataclasses.field(default=0.0, metadata={"static": True})
    """Its weight."""

    @staticmethod
    def of(train: Source, tokenizer: Tokenizer, bleu_4: float = 0.0) -> "CiderDReward":
        """Prepares the captions of a split. Raises UserError where some are too long, or an image has none."""
        captions = list(train.captions())
        ids = iter(tokenizer.encode_apart([caption for some in captions for caption in some]))
        try:
            scorer = CompiledCiderD.of([[[*next(ids), END] for _ in some] for some in captions])
        except ValueError as error:
            raise UserError(f"self_critical.reward: {error}") from error
        return CiderDReward(scorer, bleu_4)

    def __call__(self, tokens: Int[Array, "B K T"], images: Int[Array, " B"]) -> Float[Array, "B K"]:
        """On the device."""
        worth = self.scorer.score(tokens, images)
        if self.bleu_4:
            worth += self.bleu_4 * sentence_bleu_4(tokens, self.scorer.words[images])
        return worth


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True, eq=False)
class TruthReward:
    """Of drawn scenes: 1 for a caption that is true and names everything, 0.5 for one that is true, 0 for others.

    Captions are read in Python: the device waits for that.
    """

    train: Source
    tokenizer: Tokenizer

    def __call__(self, tokens: Int[Array, "B K T"], images: Int[Array, " B"]) -> Float[Array, "B K"]:
        """By a call from the device to the host."""
        shape = jax.ShapeDtypeStruct(tokens.shape[:2], np.float32)
        return jax.pure_callback(self._judged, shape, tokens, images)

    def _judged(self, tokens: Int[Array, "B K T"], images: Int[Array, " B"]) -> Float32[np.ndarray, "B K"]:
        scenes = [self._scene(int(image)) for image in images]
        return np.asarray(
            [
                [self._worth(ids, scene) for ids in captions]
                for captions, scene in zip(np.asarray(tokens), scenes, strict=True)
            ],
            np.float32,
        )

    def _worth(self, ids: Int[np.ndarray, " T"], scene: Scene) -> float:
        verdict = judge(self.tokenizer.decode(ids), scene)
        return (verdict.true + (verdict.true and verdict.complete)) / 2

    @functools.lru_cache(maxsize=100_000)  # noqa: B019
    def _scene(self, image: int) -> Scene:
        facts = self.train[image].facts
        assert facts is not None
        return Scene.from_json(facts)
