"""Two steps of training in every placement on eight simulated devices; what came of them goes to a file.

python -m tests.training.on_eight_devices FILE
"""

import dataclasses
import os
import pickle
import sys

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from captioner_jax.config import Config, DevicesConfig, EncoderConfig, ModelConfig, SelfCriticalConfig, TrainConfig
from captioner_jax.data.images import Preprocessing
from captioner_jax.data.pipeline import Batch
from captioner_jax.data.views import Lesson
from captioner_jax.model.captioner import Captioner
from captioner_jax.training.imitation import Components, Imitation
from captioner_jax.training.optimizer import make_optimizer
from captioner_jax.training.placement import make_placement
from captioner_jax.training.self_critical import SelfCritical
from captioner_jax.training.step import CrossEntropy, first_state, make_train_step
from tests.training.test_self_critical import Table
from tests.training.test_training import HOW, V, batch

MODEL = ModelConfig(
    width=32,
    heads=2,
    feed_forward=64,
    layers=1,
    encoder=EncoderConfig("vgg11_bn", ends_after=1, batch_norm="trained"),
)
FORMS = {
    "one": DevicesConfig(data=1),
    "data": DevicesConfig(),
    "fsdp": DevicesConfig(fsdp=True),
    "tensor": DevicesConfig(model=2),
    "both": DevicesConfig(data=2, model=2, fsdp=True),
    "pmap": DevicesConfig(parallel="pmap"),
}
ROWS = 8
TRAIN = TrainConfig(steps=10, warmup=0, batch_size=ROWS, label_smoothing=0.1)


def unequal() -> Batch:
    """Captions of unlike length, and two rows of no use, so that devices have unlike numbers of words."""
    whole = batch(captions=2, images=ROWS)
    whole.tokens[2:4], whole.usable[2:4] = 0, False
    return whole


def two_steps(devices, goal, optimizer, model=MODEL, train=TRAIN, vocabulary=V, data=None, how=HOW):
    placement = make_placement(Config(model=model, train=train, devices=devices))
    graphdef, variables = nnx.split(Captioner(model, vocabulary, rngs=nnx.Rngs(0)))
    state = placement.place(first_state(nnx.to_pure_dict(variables), optimizer, train))
    goal = placement.everywhere(goal)
    step = make_train_step(graphdef, optimizer, how, train, goal, placement=placement)
    held = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves((state.parameters, state.optimizer)))
    found = []
    for _ in range(2):
        state, metrics = step(state, placement.spread(unequal() if data is None else data))
        found.append(jax.device_get((metrics, placement.local(state))))
    return {"placement": type(placement).__name__, "held": held, "steps": found}


def self_critical(devices):
    model = dataclasses.replace(MODEL, encoder=EncoderConfig("convnet", 4, (16,), (0,)))
    tokens = jnp.full((ROWS, 1, 3), 4).at[:, :, 0].set(2)
    few = Batch(batch(images=ROWS).images[:, :8, :8], tokens, jnp.ones(ROWS, bool), jnp.arange(ROWS))
    goal = SelfCritical(Table(), SelfCriticalConfig(captions=3, baseline="greedy", cross_entropy=0.1), 2)
    return two_steps(devices, goal, optax.sgd(0.1, 0.9), model, vocabulary=6, data=few, how=Preprocessing(8))


def taught(devices):
    """In two parts, of which each device has its share."""
    rng, whole = np.random.default_rng(0), unequal()
    model = dataclasses.replace(MODEL, encoder=EncoderConfig("convnet", 4, (16,), (0,)))
    lessons = whole._replace(images=Lesson(whole.images, rng.normal(size=(ROWS, 4, 4, 40)).astype(np.float16)))
    lessons, usable = jax.tree.map(lambda x: np.concatenate([x, x]), lessons), np.arange(2 * ROWS) % 5 != 0
    lessons = lessons._replace(usable=usable, tokens=np.where(usable[:, None, None], lessons.tokens, 0))
    mean, directions = rng.normal(size=40), rng.normal(size=(40, MODEL.width))
    components = Components(jnp.asarray(mean, jnp.float32), jnp.asarray(directions, jnp.float32))
    goal, train = Imitation(CrossEntropy(0.1), components, 2.0), dataclasses.replace(TRAIN, batch_size=16, accumulate=2)
    return two_steps(devices, goal, optax.sgd(0.1, 0.9), model, train, data=lessons)


def main(file):
    goal = CrossEntropy(0.1)
    muon = make_optimizer(dataclasses.replace(TRAIN, matrix_learning_rate=0.02))
    lean, sgd = dataclasses.replace(TRAIN, precision="bfloat16", remat=True), optax.sgd(0.1, 0.9)
    found = {
        "sgd": {name: two_steps(devices, goal, sgd) for name, devices in FORMS.items()},
        "lean": {name: two_steps(FORMS[name], goal, sgd, train=lean) for name in ("one", "both", "pmap")},
        "muon": {name: two_steps(FORMS[name], goal, muon) for name in ("one", "both")},
        "taught": {name: taught(FORMS[name]) for name in ("one", "both")},
        "self_critical": {name: self_critical(FORMS[name]) for name in ("one", "tensor")},
    }
    with open(file, "wb") as out:
        pickle.dump(found, out)


if __name__ == "__main__":
    main(sys.argv[1])
