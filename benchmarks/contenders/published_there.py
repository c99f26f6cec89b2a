"""A Vision Transformer and GPT-2 as transformers has them, of random weights.

python published_there.py FOLDER make    writes it, as it would be published
python published_there.py FOLDER         captions images with it
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from serving import TOKENS, Task, serve
from transformers import GPT2Config, VisionEncoderDecoderConfig, VisionEncoderDecoderModel, ViTConfig

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cuda":
    torch.set_float32_matmul_precision("high")  # TF32, as XLA takes on GPUs
FOLDER = Path(sys.argv[1])


def make() -> None:
    """The sizes of both are those that transformers gives them: ViT-B/16 and the smallest GPT-2."""
    torch.manual_seed(0)
    decoder = GPT2Config(add_cross_attention=True)
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(ViTConfig(), decoder)
    config.decoder_start_token_id = config.eos_token_id = config.pad_token_id = decoder.eos_token_id
    VisionEncoderDecoderModel(config).save_pretrained(FOLDER)
    card = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
    (FOLDER / "preprocessor_config.json").write_text(json.dumps(card))
    (FOLDER / "vocab.json").write_text(json.dumps({f"word{i}": i for i in range(decoder.vocab_size)}))
    (FOLDER / "merges.txt").write_text("#version: 0.2\n")


def prepare(task: Task) -> Callable[[], object]:
    model = VisionEncoderDecoderModel.from_pretrained(FOLDER).eval().to(DEVICE)
    pixels = torch.zeros(task.images, 3, model.config.encoder.image_size, model.config.encoder.image_size)

    @torch.inference_mode()
    def run() -> torch.Tensor:
        tokens = model.generate(
            pixels.to(DEVICE),
            num_beams=task.beams,
            do_sample=False,
            min_new_tokens=TOKENS,
            max_new_tokens=TOKENS,
        )
        assert tokens.shape == (task.images, TOKENS + 1)
        return tokens.cpu()

    run()
    return run


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if sys.argv[2:]:
        make()
    else:
        peak = None if DEVICE == "cpu" else lambda: torch.cuda.max_memory_allocated() / 2**20
        serve(f"transformers {transformers.__version__}, torch {torch.__version__}, on {DEVICE}", prepare, peak)
