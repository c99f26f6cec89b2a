"""This project's training step.

python learning_here.py small|resnet50 IMAGES STEPS float32|bfloat16 DROPOUT WEIGHTS   as learning_by_hand.py keeps them
python learning_here.py small|resnet50 IMAGES STEPS float32|bfloat16 DROPOUT shares    FLOPs a device, on one and all
"""

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from held import peak_memory
from learning import (
    BETA_2,
    BLOCKS,
    CLIP,
    LEARNING_RATE,
    POSITION_SCALE,
    SHAPES,
    STEM,
    WEIGHT_DECAY,
    WIDTHS,
    batch,
)
from serving import Task, serve

sys.path.insert(0, str(Path(__file__).parents[2]))
from captioner_jax.config import Config, DevicesConfig, EncoderConfig, ModelConfig, TrainConfig
from captioner_jax.data.images import Preprocessing
from captioner_jax.data.pipeline import Batch
from captioner_jax.model.captioner import Captioner
from captioner_jax.pretrained.convolutional_names import to_ours
from captioner_jax.training.learning import divided, is_statistic
from captioner_jax.training.optimizer import make_optimizer
from captioner_jax.training.placement import make_placement
from captioner_jax.training.step import CrossEntropy, TrainState, first_state, make_train_step

NAME, IMAGES, STEPS, TYPE, DROPOUT, WEIGHTS = sys.argv[1:]
SHAPE = SHAPES[NAME]._replace(images=int(IMAGES), steps=int(STEPS))
MODEL = ModelConfig(
    width=SHAPE.width,
    heads=SHAPE.heads,
    feed_forward=SHAPE.feed_forward,
    layers=SHAPE.layers,
    position_scale=POSITION_SCALE,
    dropout=float(DROPOUT),
    encoder=EncoderConfig("convnet", STEM, WIDTHS, (0, BLOCKS))
    if NAME == "small"
    else EncoderConfig("resnet50", batch_norm="trained"),
)
TRAIN = TrainConfig(
    steps=10**7,
    warmup=0,
    batch_size=SHAPE.images,
    learning_rate=LEARNING_RATE,
    beta_2=BETA_2,
    weight_decay=WEIGHT_DECAY,
    clip=CLIP,
    precision=TYPE,
)


def begin(
    devices: DevicesConfig, kept: Mapping[str, np.ndarray] | None
) -> tuple[jax.stages.Compiled, TrainState, Batch]:
    """The compiled step, its first state, with the weights that are kept or random ones, and its batch."""
    placement = make_placement(Config(model=MODEL, train=TRAIN, devices=devices))
    graphdef, variables = nnx.split(Captioner(MODEL, SHAPE.vocabulary, rngs=nnx.Rngs(0)))
    random = nnx.to_pure_dict(variables)
    optimizer = make_optimizer(TRAIN)
    state = placement.place(first_state(random if kept is None else by_our_names(random, kept), optimizer, TRAIN))
    step = make_train_step(
        graphdef, optimizer, Preprocessing(SHAPE.side), TRAIN, placement.everywhere(CrossEntropy()), placement=placement
    )
    images, tokens = batch(SHAPE)
    numbers = np.arange(SHAPE.images, dtype=np.int32)
    whole = placement.spread(Batch(images, tokens, np.ones(SHAPE.images, bool), numbers))
    return jax.jit(step, donate_argnums=0).lower(state, whole).compile(), state, whole


def flops(step: jax.stages.Compiled) -> float:
    """Of a step, on each device, as XLA counts them in the compiled program."""
    return step.cost_analysis()["flops"]


def main() -> None:
    start = time.perf_counter()
    with np.load(WEIGHTS) as kept:
        step, state, whole = begin(DevicesConfig(data=1), kept)

    def steps(count: int) -> float:
        nonlocal state
        for _ in range(count):
            state, metrics = step(state, whole)
        return float(metrics.loss)

    def timed(task: Task):
        return lambda: steps(SHAPE.steps)

    losses = [steps(1)]
    first = time.perf_counter() - start
    losses += [steps(1) for _ in range(2)]
    told = {
        "versions": f"jax {jax.__version__}, Python {sys.version.split()[0]}, on {jax.devices()[0].device_kind}",
        "losses": losses,
        "first": first,
        "parameters": sum(x.size for x in jax.tree.leaves(divided(state.parameters, is_statistic)[1])),
        "flops": flops(step),
    }
    serve(told, timed, peak_memory())


def by_our_names(random: dict[Any, Any], kept: Mapping[str, np.ndarray]) -> dict[Any, Any]:
    """PyTorch's tensors in the places of random ones."""
    theirs = translated(kept)

    def place(path: tuple[Any, ...], x: jax.Array) -> jax.Array:
        tensor = theirs[jax.tree_util.keystr(path, simple=True, separator=".")]
        return jax.numpy.asarray(tensor).reshape(x.shape)

    return jax.tree_util.tree_map_with_path(place, random)


def translated(kept: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """PyTorch's tensors by our names, their axes in our order."""
    prefix = "encoder.net."
    resnet = to_ours({name.removeprefix(prefix): kept[name] for name in kept if name.startswith(prefix)}, "resnet50")
    ours = {f"encoder.{name}": tensor for name, tensor in resnet.items()}
    for name in kept:
        if name.startswith(prefix):
            continue
        module, _, kind = name.rpartition(".")
        inside = module if module.startswith(("encoder", "into_memory")) else f"decoder.{module}"
        block, _, layer = inside.rpartition(".")
        tensor = kept[name]
        turned = tensor.transpose(2, 3, 1, 0) if tensor.ndim == 4 else tensor.T
        match layer:
            case "embed":
                ours[f"{inside}.embedding"] = tensor
            case "qkv" | "cross_kv" | "cross_q":
                attention = "self_attention" if layer == "qkv" else "cross_attention"
                letters = layer.removeprefix("cross_")
                for letter, part in zip(letters, np.split(turned, len(letters), axis=1), strict=True):
                    ours[f"{block}.{attention}.w_{letter}"] = part
            case "o" | "cross_o":
                ours[f"{block}.{'self' if layer == 'o' else 'cross'}_attention.w_o"] = turned
            case "linear_1" | "linear_2":
                ours[f"{block}.mlp.{layer}.{'kernel' if kind == 'weight' else kind}"] = turned
            case _:
                is_norm = layer.startswith("norm")
                ours[f"{inside}.{(('scale' if is_norm else 'kernel') if kind == 'weight' else kind)}"] = turned
    return ours


if __name__ == "__main__":
    if WEIGHTS == "shares":
        print(json.dumps([flops(begin(DevicesConfig(data=count), None)[0]) for count in (1, jax.device_count())]))
    else:
        main()
