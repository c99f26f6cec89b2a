"""A PyTorch user's own: torchvision's ResNet-50, and the decoder with a hand-written cache of keys and values.

python by_hand.py eager|compiled float32|bfloat16 (what is computed in)
"""

import math
import sys
from collections.abc import Callable

import torch
import torchvision
from serving import CELLS, FEED_FORWARD, HEADS, LAYERS, SIDE, TOKENS, VOCABULARY, WIDTH, Task, serve
from torch import Tensor, nn
from torch.nn.functional import linear, log_softmax, relu, scaled_dot_product_attention

START, END = 1, 2
WAY, TYPE = sys.argv[1], getattr(torch, sys.argv[2])
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cuda":
    torch.set_float32_matmul_precision("high")  # TF32, as XLA takes on GPUs


class Block(nn.Module):
    """Self-attention over the cache, cross-attention, feed-forward, normalised before each."""

    def __init__(self):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(3))
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.o = nn.Linear(WIDTH, WIDTH, bias=False)
        self.cross_q = nn.Linear(WIDTH, WIDTH, bias=False)
        self.cross_kv = nn.Linear(WIDTH, 2 * WIDTH, bias=False)
        self.cross_o = nn.Linear(WIDTH, WIDTH, bias=False)
        self.up = nn.Linear(WIDTH, FEED_FORWARD)
        self.down = nn.Linear(FEED_FORWARD, WIDTH)

    def forward(self, x: Tensor, cache: Tensor, memory: Tensor, at: Tensor, room: int) -> Tensor:
        """x [B*K, D]; cache [2, B*K, N, T, H], written at `at` and looked at up to `room`; memory [2, B, N, S, H]."""
        sequences, images = len(x), memory.shape[1]
        q, k, v = self.qkv(self.norms[0](x)).view(sequences, 3, HEADS, 1, -1).unbind(1)
        cache.index_copy_(3, at, torch.stack([k, v]))
        seen = (torch.arange(room, device=DEVICE) <= at)[None, None, None] if room == TOKENS else None
        read = scaled_dot_product_attention(q, cache[0, :, :, :room], cache[1, :, :, :room], attn_mask=seen)
        x = x + self.o(read.reshape(sequences, WIDTH))
        # The K beams of an image are K queries of it.
        q = self.cross_q(self.norms[1](x)).view(images, -1, HEADS, WIDTH // HEADS).transpose(1, 2)
        read = scaled_dot_product_attention(q, memory[0], memory[1])
        x = x + self.cross_o(read.transpose(1, 2).reshape(sequences, WIDTH))
        return x + self.down(relu(self.up(self.norms[2](x))))


class Decoder(nn.Module):
    """Word embedding, which is the output matrix, too; blocks; sinusoidal positions."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        nn.init.normal_(self.embed.weight, std=WIDTH**-0.5)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)
        angles = torch.arange(TOKENS)[:, None] / 10000 ** (torch.arange(0, WIDTH, 2) / WIDTH)
        self.register_buffer("places", torch.stack([angles.sin(), angles.cos()], -1).view(TOKENS, WIDTH))

    def memory(self, cells: Tensor) -> list[Tensor]:
        """Keys and values of each layer, once an image."""
        shape = len(cells), CELLS, 2, HEADS, WIDTH // HEADS
        return [block.cross_kv(cells).view(shape).permute(2, 0, 3, 1, 4).contiguous() for block in self.blocks]

    def forward(self, words: Tensor, caches: list[Tensor], memory: list[Tensor], at: Tensor, room: int) -> Tensor:
        x = self.embed(words) * math.sqrt(WIDTH) + self.places[at]
        for block, cache, source in zip(self.blocks, caches, memory, strict=True):
            x = block(x, cache, source, at, room)
        return log_softmax(linear(self.norm(x), self.embed.weight).float(), dim=-1)


def prepare(task: Task) -> Callable[[], object]:
    return encoding(task) if task.part == "encode" else decoding(task)


def encoding(task: Task) -> Callable[[], object]:
    net = nn.Sequential(*list(torchvision.models.resnet50().eval().children())[:-2])
    net = net.to(DEVICE, TYPE, memory_format=torch.channels_last)
    images = torch.zeros(task.images, 3, SIDE, SIDE, dtype=TYPE, device=DEVICE).to(memory_format=torch.channels_last)
    return warm(torch.compile(net) if WAY == "compiled" else net, images)


def decoding(task: Task) -> Callable[[], object]:
    decoder = Decoder().eval().to(DEVICE, TYPE)
    step = torch.compile(decoder) if WAY == "compiled" else decoder
    search = greedy if task.beams == 1 else beam_search
    cells = torch.randn(task.images, CELLS, WIDTH, dtype=TYPE, device=DEVICE)
    return warm(search, decoder, step, cells, task.beams)


def warm(run: Callable[..., object], *arguments: object) -> Callable[[], object]:
    def once() -> object:
        with torch.inference_mode():
            found = run(*arguments)
        if DEVICE == "cuda":
            torch.cuda.synchronize()
        return found

    once()
    return once


def greedy(decoder: Decoder, step: Callable[..., Tensor], cells: Tensor, beams: int) -> Tensor:
    """The likeliest word at each step; what has ended stays as it is."""
    memory, caches = decoder.memory(cells), empty(len(cells))
    words = torch.full((len(cells),), START, device=DEVICE)
    done = torch.zeros(len(cells), dtype=torch.bool, device=DEVICE)
    tokens = torch.zeros(len(cells), TOKENS, dtype=torch.long, device=DEVICE)
    for t in range(TOKENS):
        log_p = step(words, caches, memory, torch.tensor([t], device=DEVICE), room(t))
        log_p[:, END] = -torch.inf
        words = log_p.argmax(-1).masked_fill(done, 0)
        tokens[:, t] = words
        done |= words == END
        if done.all():
            break
    return tokens


def beam_search(decoder: Decoder, step: Callable[..., Tensor], cells: Tensor, beams: int) -> Tensor:
    """The best of K captions an image by log p over length^0.7; each goes on from its parent's keys and values."""
    images = len(cells)
    memory, caches = decoder.memory(cells), empty(images * beams)
    words = torch.full((images * beams,), START, device=DEVICE)
    tokens = torch.zeros(images, beams, TOKENS, dtype=torch.long, device=DEVICE)
    total = torch.full((images, beams), -torch.inf, device=DEVICE)
    total[:, 0] = 0
    lengths = torch.zeros(images, beams, device=DEVICE)
    done = torch.zeros(images, beams, dtype=torch.bool, device=DEVICE)
    first = torch.arange(images, device=DEVICE)[:, None] * beams
    for t in range(TOKENS):
        log_p = step(words, caches, memory, torch.tensor([t], device=DEVICE), room(t)).view(images, beams, VOCABULARY)
        log_p[:, :, END] = -torch.inf
        log_p[done] = -torch.inf
        log_p[:, :, 0].masked_fill_(done, 0)
        lengths = lengths + ~done
        candidates = total[:, :, None] + log_p
        _, best = (candidates / lengths[:, :, None] ** 0.7).view(images, -1).topk(beams)
        parent, word = best // VOCABULARY, best % VOCABULARY
        total = candidates.view(images, -1).gather(1, best)
        lengths, done = lengths.gather(1, parent), done.gather(1, parent) | (word == END)
        tokens = tokens.gather(1, parent[:, :, None].expand(-1, -1, TOKENS))
        tokens[:, :, t] = word
        if done.all():
            break
        of = (first + parent).view(-1)
        for cache in caches:
            cache[:, :, :, : t + 1] = cache[:, of, :, : t + 1]
        words = word.view(-1)
    return tokens[:, 0]


def empty(sequences: int) -> list[Tensor]:
    shape = 2, sequences, HEADS, TOKENS, WIDTH // HEADS
    return [torch.zeros(shape, dtype=TYPE, device=DEVICE) for _ in range(LAYERS)]


def room(t: int) -> int:
    """How much of the cache is looked at: what is written, or, where each size would be compiled anew, all of it."""
    return TOKENS if WAY == "compiled" else t + 1


if __name__ == "__main__":
    peak = None if DEVICE == "cpu" else lambda: torch.cuda.max_memory_allocated() / 2**20
    serve(f"torch {torch.__version__}, torchvision {torchvision.__version__}, on {DEVICE}", prepare, peak)
