"""Compiled programs are kept between runs, so that only the first run waits for the compiler."""

import os

import jax
import platformdirs


def keep_compiled() -> None:
    """Turns on JAX's persistent compilation cache, in the user's cache directory, for programs of every size."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", platformdirs.user_cache_dir("captioner_jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
