"""Published captioners so small that their weights can be made of names: what they are called, and what they write in.

Without this package, for whichever Python reads it.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from tests.pretrained.making import made

# Sizes of Vision Transformers: pixels of a patch's side, width, heads, layers, pixels of an image's side.
VIT, BLIP = (8, 48, 4, 2, 32), (8, 64, 4, 2, 32)
WIDTH, HEADS, LAYERS = 48, 4, 2

_PRINTED = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_LETTERS = [chr(byte) for byte in _PRINTED] + [chr(0x100 + i) for i in range(0x100 - len(_PRINTED))]
MERGES = [("\u0120", "d"), ("o", "g"), ("\u0120d", "og"), ("\u0120", "r"), ("u", "n"), ("\u0120r", "un")]
PAIRS = [*_LETTERS, *("".join(pair) for pair in MERGES), "<|endoftext|>"]
PIECES = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "a", "dog", "##s", "run", "##ning", "the", ".", "'", "s"]
PIECES += ["in", "red", "##dish", "two", "wasche", "\u72ac"]
TEXTS = ["a dog runs", "A dog's run.", "two dogs running in the red", "W\u00e4sche \u732b \u72ac"]

# What config.json has for the ids that begin and end a caption.
VIT_GPT2_IDS = {"decoder_start_token_id": len(PAIRS) - 1, "eos_token_id": len(PAIRS) - 1}
BLIP_IDS = {"bos_token_id": len(PIECES), "sep_token_id": PIECES.index("[SEP]"), "pad_token_id": 0}


def write_folder(folder: Path, config: dict[str, Any], shapes: dict[str, list[int]], *, pairs: bool) -> None:
    """All files that a published captioner has, with weights made of their names."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    card = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
    (folder / "preprocessor_config.json").write_text(json.dumps(card))
    write_vocabulary(folder, pairs=pairs)
    save_file({name: made(name, tuple(shape)) for name, shape in shapes.items()}, folder / "model.safetensors")


def write_vocabulary(folder: Path, *, pairs: bool) -> None:
    """As older files are: vocab.json and merges.txt, or vocab.txt."""
    if pairs:
        (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(PAIRS)}))
        lines = ["#version: 0.2", *(" ".join(pair) for pair in MERGES)]
        (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n", encoding="utf-8")


def inputs(tokens: list[str], start: int) -> np.ndarray:
    """Two captions so far [2 6], as ids of theirs."""
    ids = np.random.default_rng(2).choice(columns(tokens), (2, 6))
    ids[:, 0] = start
    return ids


def columns(tokens: list[str]) -> list[int]:
    """The ids of what stands for text, and of the end."""
    return [i for i, token in enumerate(tokens) if token not in ("[PAD]", "[UNK]", "[CLS]")]
