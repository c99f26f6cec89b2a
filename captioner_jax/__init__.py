"""An image captioner in JAX, written from the equations."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from captioner_jax.captioning import Captioner

__version__ = "0.1.0"
__all__ = ["Captioner"]


def __getattr__(name: str) -> Any:
    """`Captioner` is loaded when it is asked for: what needs no JAX starts without it."""
    if name == "Captioner":
        from captioner_jax.captioning import Captioner

        return Captioner
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """So that `Captioner` is seen before it is loaded, as by those who complete names."""
    return sorted({*globals(), *__all__})
