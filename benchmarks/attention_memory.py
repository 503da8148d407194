"""Memory of attention by number of tokens: XLA's temporaries, forward and with gradients, by compiling.

    python benchmarks/attention_memory.py                        # chunked and naive attention on the CPU
    python benchmarks/attention_memory.py --topology v5e:2x2     # splash and chunked attention on one chip
    python benchmarks/attention_memory.py --gpu                  # cuDNN's and chunked attention on a GPU

Nothing is executed. The second form needs libtpu (pip install 'gencompositor-jax[tpu-aot]'), but no TPU; the
third needs the GPU. 48 heads of 64 for one clip, in float32 on CPUs, else in bfloat16. Takes one or two
minutes. Adds to
benchmarks/results/attention_memory.json.
"""

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["TPU_SKIP_MDS_QUERY"] = "1"  # or libtpu looks for a TPU

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import NamedSharding, PartitionSpec

from gencompositor_jax import sharding
from gencompositor_jax.files import atomic_write_text
from gencompositor_jax.model import attention

MIB = 2**20
TOKENS = (4_096, 8_192, 16_384, 32_768)
HEADS, HEAD_DIM = 48, 64


def temporaries(step: Callable[..., object], x: jax.ShapeDtypeStruct) -> float:
    """MiB of XLA's temporary buffers in step(x, x, x)."""
    facts: Any = jax.jit(step).lower(x, x, x).compile().memory_analysis()
    return round(facts.temp_size_in_bytes / MIB, 1)


def measure(
    backend: attention.Backend, tokens: int, dtype: jnp.dtype, where: NamedSharding
) -> dict[str, object]:
    """One row of the table."""

    def forward(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return attention.attend(q, k, v, backend=backend)

    def gradients(q: jax.Array, k: jax.Array, v: jax.Array) -> object:
        return jax.vjp(forward, q, k, v)[1](q)

    x = jax.ShapeDtypeStruct((1, tokens, HEADS, HEAD_DIM), dtype, sharding=where)
    return {
        "backend": backend,
        "tokens": tokens,
        "input_mib": tokens * HEADS * HEAD_DIM * dtype.itemsize / MIB,
        "forward_mib": temporaries(forward, x),
        "gradients_mib": temporaries(gradients, x),
    }


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--topology", help="v5e:2x2, v5p:2x2x1, ... (default: the CPU)")
    place.add_argument("--gpu", action="store_true", help="JAX's first GPU")
    parser.add_argument("--tokens", type=int, nargs="+", default=TOKENS)
    parser.add_argument("--json", action="store_true", help="one line of JSON at the end")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "attention_memory.json"
    )
    args = parser.parse_args()
    jax.config.update("jax_platforms", "cuda" if args.gpu else "cpu")
    backends: tuple[attention.Backend, ...]
    if args.topology:
        device: Any = topologies.get_topology_desc(platform="tpu", topology_name=args.topology).devices[0]
        backends, dtype = ("splash", "chunked"), jnp.dtype(jnp.bfloat16)
    elif args.gpu:
        device = jax.devices()[0]
        backends, dtype = ("cudnn", "chunked"), jnp.dtype(jnp.bfloat16)
    else:
        device = jax.devices()[0]
        backends, dtype = ("chunked", "naive"), jnp.dtype(jnp.float32)
    mesh = sharding.make_mesh({}, [device])
    where = NamedSharding(mesh, PartitionSpec())
    rows = []
    with jax.set_mesh(mesh):
        for backend in backends:
            for tokens in args.tokens:
                rows.append(measure(backend, tokens, dtype, where))
                print(json.dumps(rows[-1]), flush=True)
    report = {
        "device": device.device_kind,
        "jax": jax.__version__,
        "dtype": dtype.name,
        "heads": HEADS,
        "head_dim": HEAD_DIM,
        "rows": rows,
    }
    args.out.parent.mkdir(exist_ok=True)
    others = json.loads(args.out.read_text()) if args.out.exists() else []
    reports = [r for r in others if r["device"] != report["device"]] + [report]
    atomic_write_text(args.out, json.dumps(reports, indent=2) + "\n")
    if args.json:
        print(json.dumps(report))


if __name__ == "__main__":
    main()
