"""JAX's cache of compiled programs on disk: a study that is run again, or goes on, does not compile again."""

from __future__ import annotations

import jax

from experiments import cache

LEAST_SECONDS = 0.2
"""Of compiling, from which on a program is kept."""


def keep_programs() -> None:
    """Turn the cache on, unless a person has chosen one (JAX_COMPILATION_CACHE_DIR)."""
    if jax.config.values["jax_compilation_cache_dir"] is None:
        jax.config.update("jax_compilation_cache_dir", str(cache.directory() / "programs"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS)
