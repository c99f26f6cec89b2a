"""Writes convolutional_golden.json: what torchvision's and transformers' networks make of weights made of names.

    python -m venv room && room/bin/pip install torch==2.13.0 torchvision==0.29.2 transformers==5.23.0 pillow
    PYTHONPATH=. room/bin/python tests/pretrained/make_convolutional_golden.py WEIGHTS_FOLDER FLICKR8K_FOLDER

For each network: its convolutions and batch norms by name, with the shapes of their weights, and a digest of each
stage's cells. The two folders hold published weights and photographs (see test_convolutional.py), of which only digests
are kept. Run by hand, not by CI.
"""

import argparse
import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from tests.pretrained.making import digest, images, made

GOLDEN = Path(__file__).with_name("convolutional_golden.json")
SIZE = 72  # grids of 18, 9, 5 (or 4) and 3 (or 2): both odd and even ones are halved

RESNETS = [f"resnet{depth}" for depth in (18, 34, 50, 101, 152)]
VGGS = [f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")]
DENSENETS = [f"densenet{depth}" for depth in (121, 169, 201)]

# Keras writes 1.001e-5 where PyTorch has 1e-5, and these two were trained there.
KERAS_EPSILON = 1.001e-5
REAL = {
    "resnet50": "resnet50_c4_imagenet_fp16.safetensors",  # version 1, up to layer3
    "densenet169": "densenet169_imagenet_fp16.safetensors",
}


def made_weights(modules: dict[str, list[int]], biased: bool) -> dict[str, np.ndarray]:
    """State dict of convolutions (four sizes of a kernel; `biased` or not) and batch norms (one size)."""
    tensors = {}
    for module, shape in modules.items():
        norm = ["bias", "running_mean", "running_var"]
        for parameter in ["weight", *(norm if len(shape) == 1 else ["bias"] if biased else [])]:
            name = f"{module}.{parameter}"
            tensors[name] = made(name, tuple(shape if parameter == "weight" else shape[:1]))
    return tensors


def photographs(folder: Path, count: int) -> np.ndarray:
    """Some of Flickr8k's, normalised [count 224 224 3]; images.tar holds them at 224x224."""
    with tarfile.open(folder / "images.tar") as tar:
        names = sorted(name for name in tar.getnames() if name.endswith(".jpg"))[::500]
        files = [tar.extractfile(name) for name in names[:count]]
        pixels = np.stack([np.asarray(Image.open(io.BytesIO(file.read())).convert("RGB")) for file in files if file])
    normalised = (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    return normalised.astype(np.float32)


def modules(model) -> dict[str, list[int]]:
    """Convolutions and batch norms of a model, and the shapes of their weights."""
    import torch

    kinds = (torch.nn.Conv2d, torch.nn.BatchNorm2d)
    return {name: list(module.weight.shape) for name, module in model.named_modules() if isinstance(module, kinds)}


def stages(model, kind: str, pixels: np.ndarray) -> list[np.ndarray]:
    """Cells [B y x C] of each stage that a torchvision network has, caught as they pass."""
    import torch

    caught = []

    def catch(cells):
        caught.append(cells.detach().clone())

    if kind.startswith("vgg"):
        for layer in model.features:
            if isinstance(layer, torch.nn.MaxPool2d):
                layer.register_forward_pre_hook(lambda _, given: catch(given[0]))
    else:
        names = "layer{}" if kind.startswith("resnet") else "features.denseblock{}"
        for i in range(1, 5):
            model.get_submodule(names.format(i)).register_forward_hook(lambda _, given, out: catch(out))
    with torch.inference_mode():
        x = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())
        if kind.startswith("densenet"):
            caught[3:] = [torch.relu(model.features(x))]
        elif kind.startswith("vgg"):
            model.features(x)
        else:
            model(x)
    return [cells.numpy().transpose(0, 2, 3, 1) for cells in caught]


def torchvision_model(kind: str, version: str = "1.5"):
    import torchvision

    model = torchvision.models.get_model(kind).eval()
    if version == "1":
        for layer in (model.layer2, model.layer3, model.layer4):
            layer[0].conv1.stride, layer[0].conv2.stride = (2, 2), (1, 1)
    return model


def fill(model, tensors: dict[str, np.ndarray]) -> None:
    """Loads the weights. A model may keep parameters of its own in classifiers and beyond the stages, no more."""
    import torch

    missing, unexpected = model.load_state_dict(
        {name: torch.from_numpy(np.asarray(tensor, np.float32)) for name, tensor in tensors.items()}, strict=False
    )
    assert not unexpected, unexpected
    allowed = ("fc.", "classifier.", "layer4.")
    assert all(name.startswith(allowed) or name.endswith("num_batches_tracked") for name in missing), missing


def of_torchvision(kind: str, version: str = "1.5") -> dict:
    model = torchvision_model(kind, version)
    shapes = modules(model)
    fill(model, made_weights(shapes, kind.startswith("vgg")))
    return {"modules": shapes, "stages": [digest(cells) for cells in stages(model, kind, images(SIZE))]}


def of_hugging_face(kind: str) -> dict:
    import torch
    from transformers import ResNetConfig, ResNetForImageClassification

    small = {"layer_type": "basic", "hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 2, 2]}
    model = ResNetForImageClassification(ResNetConfig(**(small if kind == "resnet18" else {}))).eval()
    shapes = modules(model)
    fill(model, made_weights(shapes, biased=False))
    with torch.inference_mode():
        x = torch.from_numpy(images(SIZE).transpose(0, 3, 1, 2).copy())
        _, *cells = model(x, output_hidden_states=True).hidden_states
    return {"modules": shapes, "stages": [digest(x.numpy().transpose(0, 2, 3, 1)) for x in cells]}


def of_photographs(kind: str, weights: Path, flickr8k: Path) -> dict:
    import torch
    from safetensors.numpy import load_file

    version, used = ("1", 3) if kind == "resnet50" else ("1.5", 4)
    model = torchvision_model(kind, version)
    fill(model, load_file(weights / REAL[kind]))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = KERAS_EPSILON
    return {"stages": [digest(cells) for cells in stages(model, kind, photographs(flickr8k, 4))[:used]]}


def main():
    import torch
    import torchvision
    import transformers

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("flickr8k", type=Path)
    arguments = parser.parse_args()
    versions = {library.__name__: library.__version__ for library in (torch, torchvision, transformers, np)}
    golden = {
        "versions": versions,
        "torchvision": {kind: of_torchvision(kind) for kind in RESNETS + VGGS + DENSENETS},
        "version 1": of_torchvision("resnet50", "1"),
        "Hugging Face": {kind: of_hugging_face(kind) for kind in ("resnet18", "resnet50")},
        "photographs": {kind: of_photographs(kind, arguments.weights, arguments.flickr8k) for kind in REAL},
    }
    GOLDEN.write_text(json.dumps(golden, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
