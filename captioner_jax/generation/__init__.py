"""From an image's memory to captions: greedy and beam search."""
