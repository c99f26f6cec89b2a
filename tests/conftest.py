"""Every shape and type of the package is checked while the tests run; promotion of types and ranks is an error."""

import jax
import jaxtyping

jaxtyping.install_import_hook("captioner_jax", "beartype.beartype")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
