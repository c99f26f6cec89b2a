"""An image captioner in JAX, written from the equations."""

__version__ = "0.1.0"
