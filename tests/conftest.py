"""Every shape and type of the package is checked while the tests run; promotion of types and ranks is an error."""

import os

import jax
import jaxtyping
import pytest

pytest_plugins = ["tests.browser"]

jaxtyping.install_import_hook("captioner_jax", "beartype.beartype")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
# Small programs take longer to compile than to run: here, and in the processes that tests start.
jax.config.update("jax_disable_most_optimizations", True)
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "true"
if jax.__version_info__ < (0, 11):
    # What is fused is compiled through LLVM alone and not through MLIR, a fifth faster; later versions have no choice.
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_use_fusion_emitters=false"


@pytest.fixture
def ordinary_promotion():
    """For what runs Optax, whose own schedules mix integers with floats."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="session", autouse=True)
def compiled_once(tmp_path_factory):
    """Programs that several tests compile are compiled once; nothing is left in the user's cache."""
    cache = str(tmp_path_factory.mktemp("compiled"))
    jax.config.update("jax_compilation_cache_dir", cache)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", cache)
        yield


@pytest.fixture(autouse=True)
def without_java(monkeypatch):
    """As where it is not installed, but for tests/evaluation/test_java.py: it takes seconds, and leaves pipes open."""
    from captioner_jax.evaluation import java  # only now, that its types are checked

    monkeypatch.setattr(java, "available", lambda: False)


@pytest.fixture
def shallow(monkeypatch):
    """The published networks with as few blocks a stage as show what a test is about: they compile in half the time."""
    from captioner_jax.bundle import abstract  # only now, that its types are checked
    from captioner_jax.model import densenet, resnet

    for kind in densenet.LAYERS:
        monkeypatch.setitem(densenet.LAYERS, kind, (2, 2, 2, 2))
    for kind in resnet.BLOCKS:
        monkeypatch.setitem(resnet.BLOCKS, kind, (1, 1, 1, 1))
    abstract.cache_clear()
    yield
    abstract.cache_clear()
