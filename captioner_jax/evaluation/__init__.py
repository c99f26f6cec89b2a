"""How good captions are, and what they are measured against."""
