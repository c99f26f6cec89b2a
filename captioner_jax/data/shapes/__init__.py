"""Scenes drawn by the project itself, their captions, and a checker of what is true of them."""
