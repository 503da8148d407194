"""PyTorch modules with random weights for comparison with their JAX counterparts."""

from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from gencompositor_jax.arch import TransformerArch

seeds = st.integers(0, 2**31 - 1)


def few(examples: int) -> settings:
    """Settings for few, fixed examples without a deadline or shrinking: each of them compiles."""
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


@st.composite
def stacks(draw: st.DrawFn, layers: int = 1) -> TransformerArch:
    """Small transformers whose sizes all differ, so that a wrong axis is an error."""
    return TransformerArch(
        num_layers=layers,
        num_heads=draw(st.integers(1, 3)),
        head_dim=draw(st.sampled_from([16, 32])),
        time_embed_dim=draw(st.sampled_from([20, 44])),
        text_dim=draw(st.sampled_from([12, 24])),
        text_tokens=draw(st.integers(1, 7)),
    )


def randomise(module: Any, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Fills a module's whole state with values that keep activations near 1, and returns it as arrays."""
    import torch

    state = {}
    for name, tensor in module.state_dict().items():
        shape = tuple(tensor.shape)
        if len(shape) > 1:
            value = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        else:  # biases, and the scales of norms
            value = 0.2 * rng.standard_normal(shape) + ("norm" in name and name.endswith("weight"))
        state[name] = value.astype(np.float32)
    module.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    module.eval()
    return state


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """float32 standard normal."""
    return rng.standard_normal(shape).astype(np.float32)
