"""Writes captioner_golden.json: what transformers' captioners make of two images with weights made from names.

    pip install torch transformers
    python -m tests.pretrained.make_captioner_golden

Run from the root of the project.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors import safe_open
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    GPT2Config,
    GPT2Tokenizer,
    VisionEncoderDecoderConfig,
    VisionEncoderDecoderModel,
    ViTConfig,
)

from tests.pretrained import captioners
from tests.pretrained.captioners import (
    BLIP,
    BLIP_IDS,
    HEADS,
    LAYERS,
    PAIRS,
    PIECES,
    TEXTS,
    VIT,
    VIT_GPT2_IDS,
    WIDTH,
    write_folder,
    write_vocabulary,
)
from tests.pretrained.making import digest, images

GOLDEN = Path(__file__).parent / "captioner_golden.json"
WRITTEN = 8
"""Tokens that are written greedily."""


def of_sizes(sizes: tuple[int, ...]) -> dict[str, int]:
    patch, width, heads, layers, side = sizes
    told = {"hidden_size": width, "num_attention_heads": heads, "num_hidden_layers": layers}
    return told | {"intermediate_size": 4 * width, "image_size": side, "patch_size": patch}


def vit_gpt2() -> VisionEncoderDecoderModel:
    ids = {"bos_token_id": len(PAIRS) - 1, "eos_token_id": len(PAIRS) - 1}
    sizes = {"n_embd": WIDTH, "n_head": HEADS, "n_layer": LAYERS, "vocab_size": len(PAIRS)}
    decoder = GPT2Config(add_cross_attention=True, **sizes, **ids)
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(ViTConfig(**of_sizes(VIT)), decoder)
    config.update(VIT_GPT2_IDS)
    return VisionEncoderDecoderModel(config)


def blip() -> BlipForConditionalGeneration:
    text = {
        "hidden_size": WIDTH,
        "encoder_hidden_size": BLIP[1],
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "vocab_size": len(PIECES) + 2,
    }
    return BlipForConditionalGeneration(BlipConfig(text_config=text | BLIP_IDS, vision_config=of_sizes(BLIP)))


def made_of_names(model: Any, folder: Path, *, pairs: bool) -> tuple[Any, dict[str, Any]]:
    """The model with weights made of the names that its file has; config.json, and these names with shapes."""
    model.save_pretrained(folder)
    with safe_open(folder / "model.safetensors", "pt") as kept:
        shapes = {name: list(kept.get_slice(name).get_shape()) for name in kept.keys()}  # noqa: SIM118
    config = json.loads((folder / "config.json").read_text())
    write_folder(folder, config, shapes, pairs=pairs)
    return type(model).from_pretrained(folder).eval(), {"config": config, "shapes": shapes}


def of_vit_gpt2(folder: Path) -> dict[str, Any]:
    model, told = made_of_names(vit_gpt2(), folder, pairs=True)
    pixels = torch.from_numpy(images(VIT[-1])).permute(0, 3, 1, 2)
    start = VIT_GPT2_IDS["decoder_start_token_id"]
    ids = torch.from_numpy(captioners.inputs(PAIRS, start))
    with torch.no_grad():
        logits = model(pixel_values=pixels, decoder_input_ids=ids).logits
        written = model.generate(pixels, num_beams=1, do_sample=False, max_new_tokens=WRITTEN, pad_token_id=start)
    return told | outcome(logits, written, captioners.columns(PAIRS))


def of_blip(folder: Path) -> dict[str, Any]:
    model, told = made_of_names(blip(), folder, pairs=False)
    pixels = torch.from_numpy(images(BLIP[-1])).permute(0, 3, 1, 2)
    ids = torch.from_numpy(captioners.inputs(PIECES, BLIP_IDS["bos_token_id"]))
    with torch.no_grad():
        logits = model(pixel_values=pixels, input_ids=ids).logits
        written = model.generate(pixels, num_beams=1, do_sample=False, max_new_tokens=WRITTEN)
    return told | outcome(logits, written, captioners.columns(PIECES))


def outcome(logits: torch.Tensor, written: torch.Tensor, columns: list[int]) -> dict[str, Any]:
    """What is kept: a digest of the logits of these columns, and the tokens after the first."""
    return {"columns": columns, "logits": digest(logits[..., columns].numpy()), "written": written[:, 1:].tolist()}


def texts(tokenizer: Any) -> list[list[Any]]:
    """Each text, its ids, and what these are decoded to."""
    all_ids = [tokenizer.encode(text, add_special_tokens=False) for text in TEXTS]
    return [
        [text, ids, tokenizer.decode(ids, clean_up_tokenization_spaces=True)]
        for text, ids in zip(TEXTS, all_ids, strict=True)
    ]


def main() -> None:
    golden: dict[str, Any] = {"versions": {m.__name__: m.__version__ for m in (torch, transformers, np)}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        golden["vit-gpt2"] = of_vit_gpt2(folder / "vit-gpt2")
        golden["blip"] = of_blip(folder / "blip")
        for kind, pairs in (("pairs", True), ("pieces", False)):
            (folder / kind).mkdir()
            write_vocabulary(folder / kind, pairs=pairs)
        golden["pairs"] = texts(GPT2Tokenizer.from_pretrained(folder / "pairs"))
        golden["pieces"] = texts(BertTokenizer.from_pretrained(folder / "pieces"))
    GOLDEN.write_text(json.dumps(golden, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
