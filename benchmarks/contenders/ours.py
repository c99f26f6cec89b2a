"""This project. python ours.py float32|bfloat16 (what is computed in)."""

import sys
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
from flax import nnx
from held import peak_memory
from serving import CELLS, FEED_FORWARD, HEADS, LAYERS, SIDE, TOKENS, VOCABULARY, WIDTH, Task, serve

sys.path.insert(0, str(Path(__file__).parents[2]))
from captioner_jax.config import EncoderConfig, ModelConfig
from captioner_jax.generation.constraints import at_least
from captioner_jax.generation.ensemble import alone
from captioner_jax.generation.search import Found, beam_search, greedy
from captioner_jax.model.convolutions import fold_norms
from captioner_jax.model.decoder import Decoder
from captioner_jax.model.precision import in_precision
from captioner_jax.model.resnet import ResNet

PRECISION = sys.argv[1]
MODEL = ModelConfig(width=WIDTH, heads=HEADS, feed_forward=FEED_FORWARD, layers=LAYERS)


def prepare(task: Task) -> Callable[[], object]:
    return encoding(task) if task.part == "encode" else decoding(task)


def encoding(task: Task) -> Callable[[], object]:
    encoder = ResNet(EncoderConfig("resnet50", batch_norm="frozen"), rngs=nnx.Rngs(0))
    fold_norms(encoder)
    graphdef, parameters = split(encoder)
    images = jnp.zeros((task.images, SIDE, SIDE, 3), PRECISION)

    @jax.jit
    def encode(parameters, images):
        return nnx.merge(graphdef, parameters)(images)

    return lambda: jax.block_until_ready(encode(parameters, images))


def decoding(task: Task) -> Callable[[], object]:
    decoder = Decoder(MODEL, VOCABULARY, rngs=nnx.Rngs(0))
    if jax.default_backend() == "cpu":  # as `captioner_jax.generation.writing.ready` does
        decoder.lay_down_output()
    graphdef, parameters = split(decoder)
    memory = jax.random.normal(jax.random.key(1), (task.images, CELLS, WIDTH), PRECISION)
    whole = [at_least(TOKENS)]

    @jax.jit
    def decode(parameters, memory) -> Found:
        decoder = nnx.merge(graphdef, parameters)
        one = alone(decoder, decoder.project(memory))
        return greedy(one, TOKENS, whole) if task.beams == 1 else beam_search(one, TOKENS, task.beams, whole)

    return lambda: jax.block_until_ready(decode(parameters, memory))


def split(module: nnx.Module):
    graphdef, parameters = nnx.split(module)
    return graphdef, in_precision(nnx.to_pure_dict(parameters), PRECISION)


if __name__ == "__main__":
    serve(
        f"jax {jax.__version__}, Python {sys.version.split()[0]}, on {jax.devices()[0].device_kind}",
        prepare,
        peak_memory(),
    )
