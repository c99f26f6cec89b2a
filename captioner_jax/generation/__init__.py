"""From an image's memory to captions: greedy and beam search, sampling, and what constrains them."""
