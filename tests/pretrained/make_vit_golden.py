"""Writes vit_golden.json: what timm, torchvision and transformers make of two images with weights made from names.

    pip install torch torchvision timm transformers
    python -m tests.pretrained.make_vit_golden

Run from the root of the project.
"""

import json
from collections.abc import Callable
from pathlib import Path

import timm
import torch
import torchvision
import transformers
from torch import nn
from transformers import CLIPVisionConfig, CLIPVisionModel, ViTConfig, ViTModel

from tests.pretrained.making import digest, images, made

GOLDEN = Path(__file__).parent / "vit_golden.json"
KEPT = (0, 5, 11)
"""Blocks whose output is kept, beside what comes at the end."""


def filled(model: nn.Module) -> nn.Module:
    tensors = {name: torch.from_numpy(made(name, tuple(t.shape))) for name, t in model.state_dict().items()}
    model.load_state_dict(tensors)
    return model.eval()


def cells(tokens: torch.Tensor) -> dict[str, object]:
    """Digest of tokens [B 1+S D] without the first."""
    side = round((tokens.shape[1] - 1) ** 0.5)
    return digest(tokens[:, 1:].reshape(len(tokens), side, side, -1).numpy())


def run(model: nn.Module, blocks: nn.ModuleList, end: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, object]:
    """Names and shapes of a model's weights, what its norms add, and digests of blocks and of the end."""
    outputs: dict[int, torch.Tensor] = {}
    for i in KEPT:
        blocks[i].register_forward_hook(
            lambda _, __, out, i=i: outputs.update({i: out[0] if isinstance(out, tuple) else out})
        )
    with torch.no_grad():
        last = end(torch.from_numpy(images(224)).permute(0, 3, 1, 2))
    shapes = {name: list(t.shape) for name, t in model.state_dict().items()}
    epsilons = sorted({m.eps for m in model.modules() if isinstance(m, nn.LayerNorm)})
    return {
        "shapes": shapes,
        "epsilons": epsilons,
        "blocks": {i: cells(out) for i, out in outputs.items()},
        "end": cells(last),
    }


def of_timm(name: str) -> dict[str, object]:
    model = filled(timm.create_model(name, pretrained=False))
    return run(model, model.blocks, model.forward_features)


def of_torchvision() -> dict[str, object]:
    model = filled(torchvision.models.vit_b_16())
    kept: list[torch.Tensor] = []
    model.encoder.ln.register_forward_hook(lambda _, __, out: kept.append(out))
    return run(model, model.encoder.layers, lambda x: (model(x), kept[0])[1])


def of_hugging_face() -> dict[str, object]:
    model = filled(ViTModel(ViTConfig(), add_pooling_layer=False))
    return run(model, model.layers, lambda x: model(x).last_hidden_state)


def of_clip(patch: int) -> dict[str, object]:
    model = filled(CLIPVisionModel(CLIPVisionConfig(patch_size=patch)))
    return run(model, model.encoder.layers, lambda x: model(x).last_hidden_state)


def main() -> None:
    versions = {m.__name__: m.__version__ for m in (torch, torchvision, timm, transformers)}
    golden = {
        "versions": versions,
        "vit_s16 timm": of_timm("vit_small_patch16_224"),
        "vit_b16 timm": of_timm("vit_base_patch16_224"),
        "vit_b16 torchvision": of_torchvision(),
        "vit_b16 transformers": of_hugging_face(),
        "clip_b32 transformers": of_clip(32),
        "clip_b16 transformers": of_clip(16),
    }
    GOLDEN.write_text(json.dumps(golden, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
