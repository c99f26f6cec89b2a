"""An encoder of ours with published weights in it."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from captioner_jax.config import EncoderConfig
from captioner_jax.model.encoder import make_encoder
from captioner_jax.model.names import flat
from captioner_jax.pretrained.load import Loaded, load_into


def with_published(config: EncoderConfig, encoder: dict[Any, Any]) -> tuple[dict[Any, Any], Loaded]:
    """The encoder's variables, or their shapes, with those of `config.weights` in their places; what to say of these.

    Raises UserError where they cannot be had or are of another encoder.
    """
    own = flat(encoder)
    complete = own if config.ends_after is None else _complete(config)
    shapes = [{name: leaf.shape for name, leaf in some.items()} for some in (own, complete)]
    loaded = load_into(config, *shapes)
    leaves = [jnp.asarray(loaded.arrays[name]) if name in loaded.arrays else leaf for name, leaf in own.items()]
    return jax.tree.unflatten(jax.tree.structure(encoder), leaves), loaded


def _complete(config: EncoderConfig) -> dict[str, Any]:
    """The variables of all stages, as shapes."""
    whole = dataclasses.replace(config, ends_after=None)
    return flat(nnx.to_pure_dict(nnx.state(nnx.eval_shape(lambda: make_encoder(whole, rngs=nnx.Rngs(0))))))
