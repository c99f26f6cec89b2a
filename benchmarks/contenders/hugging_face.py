"""Hugging Face's `generate` with a decoder of the same size: Marian's, normalised after each sublayer, with biases.

python hugging_face.py float32|bfloat16 (what is computed in)
"""

import sys
from collections.abc import Callable

import torch
import transformers
from serving import CELLS, FEED_FORWARD, HEADS, LAYERS, TOKENS, VOCABULARY, WIDTH, Task, serve
from transformers.modeling_outputs import BaseModelOutput

TYPE = getattr(torch, sys.argv[1])
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cuda":
    torch.set_float32_matmul_precision("high")  # TF32, as XLA takes on GPUs
CONFIG = transformers.MarianConfig(
    vocab_size=VOCABULARY,
    d_model=WIDTH,
    encoder_layers=0,
    decoder_layers=LAYERS,
    decoder_attention_heads=HEADS,
    decoder_ffn_dim=FEED_FORWARD,
    activation_function="relu",
    max_position_embeddings=64,
    pad_token_id=0,
    decoder_start_token_id=1,
    eos_token_id=2,
    forced_eos_token_id=None,
)


def prepare(task: Task) -> Callable[[], object]:
    model = transformers.MarianMTModel(CONFIG).eval().to(DEVICE, TYPE)
    cells = torch.randn(task.images, CELLS, WIDTH, dtype=TYPE, device=DEVICE)
    seen = torch.ones(task.images, CELLS, dtype=torch.long, device=DEVICE)

    def run() -> torch.Tensor:
        tokens = model.generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=cells),  # made anew: `generate` writes in it
            attention_mask=seen,
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
    peak = None if DEVICE == "cpu" else lambda: torch.cuda.max_memory_allocated() / 2**20
    serve(f"transformers {transformers.__version__}, on {DEVICE}", prepare, peak)
