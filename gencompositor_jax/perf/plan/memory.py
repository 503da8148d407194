"""What a program needs of one device's memory, by what it holds."""

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

    arguments: Mapping[str, int]  # by what they are, exact
    waiting: Mapping[str, int]  # held meanwhile, but not used by the program
    padding: int  # what the layout of the arguments adds
    outputs: int  # beside those that take an argument's place
    temporaries: int  # activations, gradients, gathered weights: whatever lives at the worst moment
    code: int
    host: int = 0  # of the host's memory, for this device: what was offloaded; no part of the total

    @property
    def kinds(self) -> dict[str, int]:
        """All of it by what it is."""
        parts = {"layout padding": self.padding, "outputs": self.outputs}
        parts |= {"activations and temporaries": self.temporaries, "program": self.code}
        return {**self.arguments, **self.waiting, **parts}

    @property
    def total(self) -> int:
        """Bytes that must be there."""
        return sum(self.kinds.values())


def of(program: Program, compiled: jax.stages.Compiled) -> Memory:
    """The memory of a compiled program, as XLA has laid it out."""
    facts = compiled.memory_analysis()
    assert facts is not None
    arguments = {name: share(tree) for name, tree in program.arguments.items()}
    waiting = {name: share(tree) for name, tree in program.waiting.items()}
    return Memory(
        arguments,
        waiting,
        # Arguments that the program doesn't read are no arguments of the compiled one, but they lie there.
        padding=max(0, facts.argument_size_in_bytes - sum(arguments.values())),
        outputs=max(0, facts.output_size_in_bytes - facts.alias_size_in_bytes),
        temporaries=facts.temp_size_in_bytes,
        code=facts.generated_code_size_in_bytes,
        host=facts.host_temp_size_in_bytes,
    )


def share(tree: Any) -> int:
    """Bytes of one device's shares of a tree of placed shapes."""
    return sum(
        _item_size(x.dtype) * int(np.prod(x.sharding.shard_shape(x.shape), dtype=np.int64))
        for x in jax.tree.leaves(tree)
    )


def told_too_large(error: Exception) -> int | None:
    """Bytes that a program would need, by the error of a compilation that gave up; None for others."""
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
