"""`python -m gencompositor_jax` is the command `gencompositor`."""

from gencompositor_jax.cli import entry_point

entry_point()
