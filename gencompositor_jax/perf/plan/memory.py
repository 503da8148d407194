"""Memory of one device while a program runs, by what it holds."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gencompositor_jax.perf.hardware import GIB
from gencompositor_jax.perf.plan.workloads import Program


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes of one device while a program runs."""

    arguments: Mapping[str, int]  # by kind, exact
    waiting: Mapping[str, int]  # held meanwhile, but not used by the program
    padding: int  # added by the layout of the arguments
    outputs: int  # besides those that reuse a donated argument's buffer
    temporaries: int  # activations, gradients, gathered weights: all that is live at the peak
    code: int
    host: int = 0  # of the host's memory, for this device: offloaded arrays; not part of the total

    @property
    def kinds(self) -> dict[str, int]:
        """All of it by kind."""
        parts = {"layout padding": self.padding, "outputs": self.outputs}
        parts |= {"activations and temporaries": self.temporaries, "program": self.code}
        return {**self.arguments, **self.waiting, **parts}

    @property
    def total(self) -> int:
        """Bytes needed."""
        return sum(self.kinds.values())


def of(program: Program, compiled: jax.stages.Compiled) -> Memory:
    """The memory of a compiled program, as XLA plans it."""
    facts = compiled.memory_analysis()
    assert facts is not None
    arguments = {name: bytes_per_device(tree) for name, tree in program.arguments.items()}
    waiting = {name: bytes_per_device(tree) for name, tree in program.waiting.items()}
    return Memory(
        arguments,
        waiting,
        # The compiled program drops arguments that it doesn't read; they are in memory nevertheless.
        padding=max(0, facts.argument_size_in_bytes - sum(arguments.values())),
        outputs=max(0, facts.output_size_in_bytes - facts.alias_size_in_bytes),
        temporaries=facts.temp_size_in_bytes,
        code=facts.generated_code_size_in_bytes,
        host=facts.host_temp_size_in_bytes,
    )


def bytes_per_device(tree: Any) -> int:
    """Bytes that one device holds of a tree of shapes; those without a sharding are whole on each."""

    def shape(x: Any) -> tuple[int, ...]:
        return x.shape if x.sharding is None else x.sharding.shard_shape(x.shape)

    return sum(_item_size(x.dtype) * int(np.prod(shape(x), dtype=np.int64)) for x in jax.tree.leaves(tree))


def needed_by(error: Exception) -> int | None:
    """Bytes that a program would need, by the error of its compilation; None for an error of another kind."""
    text = str(error)
    if "RESOURCE_EXHAUSTED" not in text:
        return None
    found = re.search(r"(?:Used|temporaries|required[^()]*)\s*\(?([\d.]+)([KMG])", text)
    scale = {"K": 2**10, "M": 2**20, "G": GIB}
    return int(float(found[1]) * scale[found[2]]) if found else 0


def _item_size(dtype: Any) -> int:
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        return 8  # two words of 32 bits
    return int(jnp.dtype(dtype).itemsize)
