"""Self-critical training (Rennie et al. 2017, "Self-critical Sequence Training for Image Captioning").

The captioner writes captions of its own, and each becomes likelier or less likely as its reward is greater or less than
a baseline: REINFORCE (Williams 1992) on the reward itself, which no gradient of a loss on single words tells of.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from captioner_jax.config import SelfCriticalConfig
from captioner_jax.data.pipeline import Batch
from captioner_jax.generation.ensemble import Ensemble, alone, log_probabilities
from captioner_jax.generation.search import beam_search, greedy, sample
from captioner_jax.model.captioner import Captioner
from captioner_jax.text.special import PAD, START
from captioner_jax.training.rewards import Reward
from captioner_jax.training.step import Counts, CrossEntropy


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SelfCritical:
    r"""$$-\frac{1}{K} \sum_k \big(r(w^k) - b\big) \log p(w^k)$$ of K captions w^k that the captioner writes.

    Where they are sampled, its gradient is on average that of $-\mathbb{E}_{w \sim p}\, r(w)$, for any baseline b that
    does not depend on w^k (Rennie et al. 2017, equations 5 and 7); b makes it less noisy. The policy is the captioner
    without dropout. Entropy and the cross-entropy of people's captions are added as the settings weigh them.
    """

    reward: Reward
    settings: SelfCriticalConfig = dataclasses.field(metadata={"static": True})
    length: int = dataclasses.field(metadata={"static": True})
    """T, the longest caption in tokens."""
    people: CrossEntropy = dataclasses.field(default=CrossEntropy(), metadata={"static": True})
    """What `settings.cross_entropy` weighs."""

    def __call__(
        self, captioner: Captioner, cells: Float[Array, "B y x C"], batch: Batch, whole: Counts, key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """The objective over images that can be used; and their captions' mean reward."""
        usable, numbers = jnp.asarray(batch.usable), jnp.asarray(batch.numbers)
        still = _without_gradient(captioner)
        policy = alone(still.decoder, still.memory(jax.lax.stop_gradient(cells)))
        drawing, dropping = jax.random.split(key)
        tokens = self._written(policy, drawing)
        rewards = self.reward(tokens, numbers)
        if self.settings.baseline == "greedy":
            baseline = self.reward(greedy(policy, self.length).tokens, numbers)
        else:
            baseline = mean_of_others(rewards)
        log_p, entropy = _retold(captioner, cells, tokens)
        value = (rewards - baseline) * log_p + self.settings.entropy * entropy
        told = {"reward": _share(rewards, usable, whole), "entropy": _share(entropy, usable, whole)}
        loss = -_share(value, usable, whole)
        if self.settings.cross_entropy:
            of_people, _ = self.people(captioner, cells, batch, whole, dropping)
            loss = (1 - self.settings.cross_entropy) * loss + self.settings.cross_entropy * of_people
        return loss, told

    def _written(self, policy: Ensemble, key: PRNGKeyArray) -> Int[Array, "B K T"]:
        if self.settings.written_by == "beams":
            return beam_search(policy, self.length, self.settings.captions).tokens
        return sample(policy, self.length, self.settings.captions, jax.random.split(key, policy.images)).tokens


def mean_of_others(rewards: Float[Array, "B K"]) -> Float[Array, "B K"]:
    r"""$$b_k = \frac{1}{K - 1} \sum_{j \neq k} r_j$$

    (Luo 2020, "A Better Variant of Self-Critical Sequence Training").
    """
    return (rewards.sum(-1, keepdims=True) - rewards) / (rewards.shape[-1] - 1)


def _retold(
    captioner: Captioner, cells: Float[Array, "B y x C"], tokens: Int[Array, "B K T"]
) -> tuple[Float[Array, "B K"], Float[Array, "B K"]]:
    """Log-probabilities of captions, and the entropies of the distributions of their words, summed; in one pass."""
    ids = tokens.reshape(-1, tokens.shape[-1])
    inputs = jnp.concatenate([jnp.full_like(ids[:, :1], START), ids[:, :-1]], axis=1)
    log_p = log_probabilities(captioner.decoder(inputs, inputs != PAD, captioner.memory(cells)))
    of_words = jnp.take_along_axis(log_p, ids[:, :, None], axis=-1)[:, :, 0]
    possible = jnp.isfinite(log_p)
    entropies = -jnp.where(possible, jnp.exp(log_p) * jnp.where(possible, log_p, 0.0), 0.0).sum(-1)
    of_captions = lambda x: jnp.where(ids != PAD, x, 0.0).sum(-1).reshape(tokens.shape[:2])  # noqa: E731
    return of_captions(of_words), of_captions(entropies)


def _without_gradient(captioner: Captioner) -> Captioner:
    graphdef, state = nnx.split(captioner)
    return nnx.merge(graphdef, jax.tree.map(jax.lax.stop_gradient, state))


def _share(x: Float[Array, "B K"], usable: Bool[Array, " B"], whole: Counts) -> Float[Array, ""]:
    """Of the mean over the captions of images that can be used, in the whole batch, what these images bring."""
    return jnp.where(usable[:, None], x, 0.0).sum() / (jnp.maximum(whole.images, 1) * x.shape[1])
