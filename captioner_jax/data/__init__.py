"""Captioned images of any kind as batches of arrays."""
