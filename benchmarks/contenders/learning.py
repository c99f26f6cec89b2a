"""What contenders in training learn: one of two captioners, and a batch that is always the same.

Standard library and NumPy alone, for whichever Python reads it.
"""

from typing import NamedTuple

import numpy as np

PAD, START, END = 0, 1, 2
# AdamW after clipping, the learning rate all but constant; weight decay on what has more than one axis.
LEARNING_RATE, BETA_1, BETA_2, EPSILON, WEIGHT_DECAY, CLIP = 1e-4, 0.9, 0.98, 1e-8, 0.05, 1.0
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Shape(NamedTuple):
    """A captioner and its batch; `steps` are done each time that one is timed."""

    side: int
    images: int
    captions: int
    tokens: int
    vocabulary: int
    width: int
    heads: int
    feed_forward: int
    layers: int
    steps: int


# Those of configs/shapes.toml, a small convolutional encoder and two decoder layers; and ResNet-50 with six.
SHAPES = {
    "small": Shape(64, 8, 3, 16, 40, 128, 4, 256, 2, steps=10),
    "resnet50": Shape(224, 8, 5, 20, 10_000, 512, 8, 2048, 6, steps=1),
}
# Of the small encoder: stride of the first convolution, channels of its stages, residual blocks of the last.
STEM, WIDTHS, BLOCKS = 4, (64, 96), 2
POSITION_SCALE = 3.0


def batch(shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [B Y X 3], and tokens int32 [B G T+1] of captions of unlike length."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (shape.images, shape.side, shape.side, 3), dtype=np.uint8)
    tokens = np.full((shape.images, shape.captions, shape.tokens + 1), PAD, np.int32)
    tokens[:, :, 0] = START
    for row in tokens.reshape(-1, shape.tokens + 1):
        end = rng.integers(shape.tokens // 2, shape.tokens + 1)
        row[1:end] = rng.integers(4, shape.vocabulary, end - 1)
        row[end] = END
    return images, tokens
