"""A PyTorch user's own training: torchvision's ResNet-50 or the small encoder, decoder, loss and AdamW.

python learning_by_hand.py eager|compiled small|resnet50 IMAGES STEPS float32|bfloat16 DROPOUT WEIGHTS

Weights are read from the file WEIGHTS, or, where there is none, drawn at random and written there.
"""

import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torchvision
from learning import (
    BETA_1,
    BETA_2,
    BLOCKS,
    CLIP,
    DEVIATION,
    EPSILON,
    LEARNING_RATE,
    MEAN,
    PAD,
    POSITION_SCALE,
    SHAPES,
    STEM,
    WEIGHT_DECAY,
    WIDTHS,
    Shape,
    batch,
)
from serving import Task, serve
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout, linear, scaled_dot_product_attention

WAY, NAME, IMAGES, STEPS, TYPE, DROPOUT, WEIGHTS = sys.argv[1:]
SHAPE = SHAPES[NAME]._replace(images=int(IMAGES), steps=int(STEPS))
RATE = float(DROPOUT)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(channels // 16, channels, eps=1e-6)


class Residual(nn.Module):
    """Normalised, rectified and convolved, twice."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm_1, self.norm_2 = norm(channels), norm(channels)
        self.conv_1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.conv_2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_2(self.norm_2(self.conv_1(self.norm_1(x).relu())).relu())


class Shrink(nn.Module):
    """The grid halved."""

    def __init__(self, channels: int, into: int):
        super().__init__()
        self.norm = norm(channels)
        self.linear = nn.Conv2d(channels, into, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.norm(x).relu())


class Small(nn.Module):
    """The encoder of configs/shapes.toml."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTHS[0], 2 * STEM, stride=STEM, padding=STEM // 2)
        self.layers = nn.Sequential(Shrink(*WIDTHS), *(Residual(WIDTHS[1]) for _ in range(BLOCKS)))
        self.norm = norm(WIDTHS[1])

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.layers(self.stem(x))).relu()


class ResNet(nn.Module):
    """torchvision's, without its head."""

    def __init__(self):
        super().__init__()
        net = torchvision.models.resnet50()
        del net.fc, net.avgpool
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        net = self.net
        x = net.maxpool(net.relu(net.bn1(net.conv1(x))))
        return net.layer4(net.layer3(net.layer2(net.layer1(x))))


class Block(nn.Module):
    """Self-attention, cross-attention, feed-forward, normalised before each."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.heads, width = shape.heads, shape.width
        self.norm_1, self.norm_2, self.norm_3 = (nn.LayerNorm(width, eps=1e-6) for _ in range(3))
        self.qkv, self.o = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.cross_q, self.cross_kv = nn.Linear(width, width, bias=False), nn.Linear(width, 2 * width, bias=False)
        self.cross_o = nn.Linear(width, width, bias=False)
        self.linear_1, self.linear_2 = nn.Linear(width, shape.feed_forward), nn.Linear(shape.feed_forward, width)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        """x [B*G, T, D]; memory [B, S, D], of which an image's G captions are G*T queries."""
        q, k, v = self.split(self.qkv(self.norm_1(x)), 3)
        x = x + dropout(self.o(self.joined(scaled_dot_product_attention(q, k, v, is_causal=True))), RATE)
        queries = self.cross_q(self.norm_2(x)).view(len(memory), -1, x.shape[-1])
        (q,), (k, v) = self.split(queries, 1), self.split(self.cross_kv(memory), 2)
        read = self.cross_o(self.joined(scaled_dot_product_attention(q, k, v))).view(x.shape)
        x = x + dropout(read, RATE)
        return x + dropout(self.linear_2(self.linear_1(self.norm_3(x)).relu()), RATE)

    def split(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        return x.view(*x.shape[:2], parts, self.heads, -1).permute(2, 0, 3, 1, 4).unbind()

    def joined(self, heads: Tensor) -> Tensor:
        return heads.transpose(1, 2).flatten(2)


class Captioner(nn.Module):
    """Images and tokens in, the mean loss of their words out."""

    def __init__(self, shape: Shape):
        super().__init__()
        width = shape.width
        self.encoder = Small() if NAME == "small" else ResNet()
        channels, self.cells = (WIDTHS[-1], shape.side // 8) if NAME == "small" else (2048, shape.side // 32)
        self.into_memory = nn.Linear(channels, width)
        self.embed = nn.Embedding(shape.vocabulary, width)
        nn.init.normal_(self.embed.weight, std=width**-0.5)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        places = sinusoids(self.cells, width // 2)
        rows, columns = places[:, None].expand(-1, self.cells, -1), places[None].expand(self.cells, -1, -1)
        grid = POSITION_SCALE * torch.cat([rows, columns], -1).flatten(0, 1)
        self.register_buffer("grid", grid, persistent=False)
        self.register_buffer("places", sinusoids(shape.tokens, width), persistent=False)
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor, tokens: Tensor) -> Tensor:
        x = (images.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.deviation
        cells = self.encoder(x).flatten(2).transpose(1, 2)
        memory = self.into_memory(cells) + self.grid
        inputs, targets = tokens.flatten(0, 1)[:, :-1], tokens.flatten(0, 1)[:, 1:]
        x = dropout(self.embed(inputs) * math.sqrt(self.embed.embedding_dim) + self.places, RATE)
        for block in self.blocks:
            x = block(x, memory)
        logits = linear(self.norm(x), self.embed.weight)
        return cross_entropy(logits.flatten(0, 1).float(), targets.flatten().long(), ignore_index=PAD)


def sinusoids(count: int, width: int) -> Tensor:
    angles = torch.arange(count)[:, None] / 10000 ** (torch.arange(0, width, 2) / width)
    return torch.stack([angles.sin(), angles.cos()], -1).view(count, width)


def main() -> None:
    torch.manual_seed(0)
    start = time.perf_counter()
    captioner = Captioner(SHAPE).to(DEVICE, memory_format=torch.channels_last)
    exchange(captioner, Path(WEIGHTS))
    parameters = list(captioner.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, LEARNING_RATE, (BETA_1, BETA_2), EPSILON, fused=True)
    run = torch.compile(captioner) if WAY == "compiled" else captioner
    whole = batch(SHAPE)

    def step() -> Tensor:
        images, tokens = (torch.from_numpy(x).to(DEVICE, non_blocking=True) for x in whole)
        optimizer.zero_grad()
        with torch.autocast(DEVICE, torch.bfloat16, enabled=TYPE == "bfloat16"):
            loss = run(images, tokens)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        return loss

    def timed(task: Task):
        return lambda: [step() for _ in range(SHAPE.steps)][-1].item()

    losses = [step().item()]
    first = time.perf_counter() - start
    losses += [step().item() for _ in range(2)]
    told = {
        "versions": f"torch {torch.__version__} on {DEVICE}",
        "losses": losses,
        "first": first,
        "parameters": sum(p.numel() for p in parameters),
    }
    serve(told, timed, None if DEVICE == "cpu" else lambda: torch.cuda.max_memory_allocated() / 2**20)


def exchange(captioner: Captioner, file: Path) -> None:
    if not file.exists():
        np.savez(file, **{name: x.cpu().numpy() for name, x in captioner.state_dict().items()})
    with np.load(file) as kept:
        captioner.load_state_dict({name: torch.from_numpy(kept[name]) for name in kept})


if __name__ == "__main__":
    main()
