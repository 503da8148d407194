"""Checks what runs on accelerators alone, against float32 or the platform-independent form, on JAX's device.

    python benchmarks/gpu_check.py [--json] [--out FILE]
    python benchmarks/gpu_check.py --small    # fewer tokens and pixels: seconds on a CPU

attention       the backend that `auto` chooses here, in bfloat16, forward and backward, with and without
                padding, against naive attention in float32; "reference" is naive attention in bfloat16
convolutions    the VAE's causal convolutions as 2-D ones against 3-D ones, in float32 and bfloat16
codec           the released VAE's decoder with random weights, bfloat16 against float32

Errors are root mean squares, relative to the root mean square of the exact values. Exits with 1 where one is
more than twice the reference's, or above its limit.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gencompositor_jax import arch as arch_lib
from gencompositor_jax import checkpoints, codec
from gencompositor_jax.codec import vae_layers
from gencompositor_jax.files import atomic_write_text
from gencompositor_jax.model import attention

# Rounding to bfloat16 costs 0.2 % in the root mean square; sums of many products a little more.
LIMITS = {"float32": 1e-4, "bfloat16": 1e-2}


def error(found: Any, exact: Any) -> float:
    """Root mean square of the difference, relative to that of the exact values, over the leaves of trees."""
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True)
    parts = [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in pairs]
    wrong = sum(float(np.square(a - b).sum()) for a, b in parts)
    return (wrong / sum(float(np.square(b).sum()) for _, b in parts)) ** 0.5


def check_attention(tokens: int, heads: int, length: int | None) -> dict[str, Any]:
    """Errors of values and gradients."""
    drawn = [jax.random.normal(key, (1, tokens, heads, 64)) for key in jax.random.split(jax.random.key(0), 4)]
    *inputs, pull = (x.astype(jnp.bfloat16) for x in drawn)
    # The output at the padding isn't used, hence neither its gradient.
    pull = pull * (jnp.arange(tokens) < (length or tokens))[None, :, None, None].astype(pull.dtype)

    def both(backend: attention.Backend, dtype: Any) -> Any:
        def run(q: jax.Array, k: jax.Array, v: jax.Array, pull: jax.Array) -> Any:
            out, back = jax.vjp(lambda q, k, v: attention.attend(q, k, v, length, backend), q, k, v)
            return out * (pull != 0), back(pull)

        with jax.default_matmul_precision("highest"):
            found = jax.jit(run)(*(x.astype(dtype) for x in (*inputs, pull)))
        return jax.tree.map(lambda x: np.asarray(x.astype(jnp.float32)), found)

    exact = both("naive", jnp.float32)
    found = {"auto": both("auto", jnp.bfloat16), "reference": both("naive", jnp.bfloat16)}
    errors = {
        name: {"values": error(out, exact[0]), "gradients": error(back, exact[1])}
        for name, (out, back) in found.items()
    }
    chosen = attention._best(jnp.dtype(jnp.bfloat16), 64)
    passed = all(errors["auto"][kind] < 2 * errors["reference"][kind] for kind in errors["auto"])
    facts = {"tokens": tokens, "heads": heads, "length": length}
    return {"check": "attention", **facts, "backend": chosen, "errors": errors, "passed": passed}


def check_convolution(shape: tuple[int, ...], dtype: Any) -> dict[str, Any]:
    """Error of the 2-D form against the 3-D form in float32."""
    frames, height, width, channels, features = shape
    x = jax.random.normal(jax.random.key(0), (1, frames + 2, height, width, channels)).astype(dtype)
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 3, channels, features)).astype(dtype)
    with jax.default_matmul_precision("highest"):
        exact = jax.jit(vae_layers.convolve_video)(x.astype(jnp.float32), kernel.astype(jnp.float32))
    found = jax.jit(vae_layers.convolve_frames)(x, kernel)
    wrong, name = error(found.astype(jnp.float32), exact), jnp.dtype(dtype).name
    passed = wrong < LIMITS[name]
    return {"check": "convolution", "shape": shape, "dtype": name, "error": wrong, "passed": passed}


def check_codec(frames: int, height: int, width: int) -> dict[str, Any]:
    """Error of the released decoder in bfloat16 against itself in float32."""
    arch = arch_lib.preset("released", {"frames": frames, "height": height, "width": width})
    shapes = checkpoints.array_shapes(arch)["codec"]
    leaves, tree = jax.tree_util.tree_flatten_with_path(shapes)
    keys = jax.random.split(jax.random.key(0), len(leaves))

    def draw(path: Any, leaf: Any, key: jax.Array) -> jax.Array:
        if path[-1].key == "scale":
            return jnp.ones(leaf.shape)
        fan_in = max(1, int(np.prod(leaf.shape[:-1])))
        return jax.random.normal(key, leaf.shape) * (fan_in**-0.5 if len(leaf.shape) > 1 else 0.1)

    drawn = [draw(path, leaf, key) for (path, leaf), key in zip(leaves, keys, strict=True)]
    params = jax.tree.unflatten(tree, drawn)
    latents = jax.random.normal(jax.random.key(2), (1, *arch.latent_shape))

    def decoded(dtype: Any) -> jax.Array:
        cast = jax.tree.map(lambda x: x.astype(dtype), params)
        return jax.jit(lambda p, z: codec.decode(p, arch.codec, z, dtype=dtype))(cast, latents)

    with jax.default_matmul_precision("highest"):
        exact = decoded(jnp.float32)
    wrong = error(decoded(jnp.bfloat16).astype(jnp.float32), exact.astype(jnp.float32))
    size = (frames, height, width)
    return {"check": "codec", "size": size, "error": wrong, "passed": wrong < 5 * LIMITS["bfloat16"]}


def main() -> None:
    """Check, print a line per check, write the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--small", action="store_true", help="small sizes")
    parser.add_argument("--json", action="store_true", help="one line of JSON at the end")
    parser.add_argument("--out", type=Path, help="JSON file")
    args = parser.parse_args()
    tokens, heads, side = (160, 2, 8) if args.small else (4_096, 16, 1)
    checks: list[Any] = [
        lambda: check_attention(tokens, heads, None),
        lambda: check_attention(tokens, heads, tokens - 37),
        lambda: check_attention(577, 4, None),
    ]
    for shape in ((2, 60, 90, 512, 512), (8, 240, 360, 256, 128)):
        small = (shape[0], *(-(-n // side) for n in shape[1:3]), *(n // side for n in shape[3:]))
        checks += [lambda s=small, t=t: check_convolution(s, t) for t in (jnp.float32, jnp.bfloat16)]
    if not args.small:
        checks.append(lambda: check_codec(9, 96, 144))
    found = []
    for check in checks:
        found.append(check())
        print(json.dumps(found[-1]), flush=True)
    report = {"device": jax.devices()[0].device_kind, "jax": jax.__version__, "checks": found}
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_text(args.out, json.dumps(report, indent=1) + "\n")
    if args.json:
        print(json.dumps(report))
    sys.exit(not all(check["passed"] for check in found))


if __name__ == "__main__":
    main()
