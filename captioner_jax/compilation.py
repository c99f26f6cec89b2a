"""Compiled programs are kept between runs, so that only the first run waits for the compiler."""

import jax
import platformdirs


def keep_compiled() -> None:
    """Turns on JAX's persistent compilation cache, in the user's cache directory, for programs of every size."""
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", platformdirs.user_cache_dir("captioner_jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
