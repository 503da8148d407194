"""Time and memory of the VAE's causal convolutions as 3-D and as 2-D convolutions, on JAX's default device.

    python benchmarks/vae_convolutions.py [--json] [--rounds 7]
    python benchmarks/vae_convolutions.py --small    # an eighth of each side: seconds on a CPU

The shapes are those of the released decoder at 480 x 720, for a chunk of two latent frames: at each size the
convolution with the most work. bfloat16 on accelerators, float32 on a CPU. Both run in turn; figures are
medians. Adds to benchmarks/results/vae_convolutions.json, by device.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp

from gencompositor_jax.codec import vae_layers
from gencompositor_jax.files import atomic_write_text

# Output frames, height, width, input channels, output channels.
SHAPES = (
    (2, 60, 90, 512, 512),
    (4, 120, 180, 512, 512),
    (8, 240, 360, 256, 256),
    (8, 480, 720, 256, 128),
    (8, 480, 720, 128, 128),
)
FORMS: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "3-D": vae_layers.convolve_video,
    "2-D": vae_layers.convolve_frames,
}
RESULTS = Path(__file__).parent / "results" / "vae_convolutions.json"


def measured(shape: tuple[int, ...], rounds: int, dtype: jnp.dtype) -> dict[str, object]:
    """Milliseconds, ratio and XLA's temporaries for one layer."""
    frames, height, width, channels, features = shape
    x = jax.random.normal(jax.random.key(0), (1, frames + 2, height, width, channels), dtype)
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 3, channels, features), dtype)
    runs = {name: jax.jit(form).lower(x, kernel).compile() for name, form in FORMS.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):  # the first round warms up
        for name, run in runs.items():
            began = time.perf_counter()
            jax.block_until_ready(run(x, kernel))
            times[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(found[1:]) for name, found in times.items()}
    sizes = {name: run.memory_analysis() for name, run in runs.items()}
    return {
        "shape": shape,
        "milliseconds": {name: round(1e3 * seconds, 2) for name, seconds in medians.items()},
        "ratio": round(medians["2-D"] / medians["3-D"], 3),
        "temporary_mib": {name: size.temp_size_in_bytes >> 20 for name, size in sizes.items() if size},
    }


def main() -> None:
    """Measure, print a line per layer, write the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--small", action="store_true", help="an eighth of each side")
    parser.add_argument("--json", action="store_true", help="one line of JSON at the end")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    device = jax.devices()[0]
    dtype = jnp.dtype("float32" if device.platform == "cpu" else "bfloat16")
    side = 8 if args.small else 1
    layers = []
    for frames, height, width, *channels in SHAPES:
        shape = (frames, -(-height // side), -(-width // side), *channels)
        layers.append(measured(shape, args.rounds, dtype))
        print(f"{shape}: 2-D / 3-D {layers[-1]['ratio']}", flush=True)
    key = f"{device.device_kind}, {dtype}" + (", small" if args.small else "")
    found = {key: {"rounds": args.rounds, "jax": jax.__version__, "layers": layers}}
    args.out.parent.mkdir(exist_ok=True)
    known = json.loads(args.out.read_text()) if args.out.exists() else {}
    atomic_write_text(args.out, json.dumps(known | found, indent=2) + "\n")
    if args.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
