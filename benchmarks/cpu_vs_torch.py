"""One forward pass on the CPU: this backbone and PyTorch's CogVideoX transformer, at equal size and tokens.

    pip install -e '.[parity]'
    python benchmarks/cpu_vs_torch.py [--json] [--rounds 7]

Both have the same blocks, width, heads and joint sequence in float32, with random weights: ours has text,
video and foreground tokens, PyTorch's text and twice the video tokens. The release samples with guidance
between two equal prompts, so PyTorch's side of `ratio_guided` is a batch of two; this package evaluates equal
prompts once. The passes run in turn (ours, PyTorch, PyTorch doubled, ours, ...); figures are medians, ratios
are ours / PyTorch. Writes benchmarks/results/cpu_vs_torch.json.
"""

import argparse
import dataclasses
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from diffusers import __version__ as diffusers_version  # noqa: E402
from gpu_vs_torch import torch_transformer  # noqa: E402

from gencompositor_jax import arch as arch_lib  # noqa: E402
from gencompositor_jax.files import atomic_write_text  # noqa: E402
from gencompositor_jax.model.fusion_dit import FusionDiT  # noqa: E402
from gencompositor_jax.perf import flops  # noqa: E402

STACK = arch_lib.TransformerArch(num_layers=4, num_heads=8, head_dim=64)  # 512 wide
ARCH = dataclasses.replace(
    arch_lib.released(), frames=13, height=320, width=416, backbone=STACK, base_grid=(20, 26)
)
RESULTS = Path(__file__).parent / "results" / "cpu_vs_torch.json"


def ours() -> Callable[[], object]:
    """One forward pass of the backbone, compiled."""
    t, rows, columns = ARCH.token_grid
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> jax.Array:
        return jnp.asarray(rng.standard_normal(shape, np.float32))

    latents = [normal(1, *ARCH.latent_shape) for _ in range(3)]
    text = normal(1, STACK.text_tokens, STACK.text_dim)
    timestep, video = jnp.array([500]), t * rows * columns
    given = (*latents, text, timestep, jnp.zeros((2, 1, video, STACK.width)), jnp.ones((1, video), bool))
    network = FusionDiT(ARCH)
    shapes = jax.eval_shape(network.init, jax.random.key(0), *given)
    variables = jax.tree.map(lambda x: 0.02 * normal(*x.shape), shapes)
    run = jax.jit(network.apply).lower(variables, *given).compile()
    return lambda: jax.block_until_ready(run(variables, *given))


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="also print one last line of JSON")
    args = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    forward = ours()
    other, _ = torch_transformer(ARCH, torch.device("cpu"), torch.float32)
    runs = {"ours": forward, "pytorch": lambda: other(1), "pytorch doubled": lambda: other(2)}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    with torch.inference_mode():
        for run in runs.values():
            run()
        for _ in range(args.rounds):
            for name, run in runs.items():
                began = time.perf_counter()
                run()
                seconds[name].append(time.perf_counter() - began)
    t, rows, columns = ARCH.token_grid
    median = {name: statistics.median(values) for name, values in seconds.items()}
    report = {
        "ratio": round(median["ours"] / median["pytorch"], 3),
        "ratio_guided": round(median["ours"] / median["pytorch doubled"], 3),
        "joint_tokens": STACK.text_tokens + 2 * t * rows * columns,
        "width": STACK.width,
        "blocks": STACK.num_layers,
        "forward_gflop": round(flops.backbone(ARCH).total / 1e9),
        "cores": os.cpu_count(),
        "rounds": args.rounds,
        "load_before": round(os.getloadavg()[0], 2),
        "versions": {
            "jax": jax.__version__,
            "torch": torch.__version__,
            "diffusers": diffusers_version,
        },
    }
    atomic_write_text(RESULTS, json.dumps(report, indent=2) + "\n")
    print(f"ours / PyTorch, one forward pass each: {report['ratio']}")
    print(f"ours / PyTorch's doubled batch, as its guidance runs it: {report['ratio_guided']}")
    if args.json:
        print(json.dumps(report))


if __name__ == "__main__":
    main()
