"""The T5 encoder (version 1.1, bidirectional), for text embeddings: one block in memory at a time.

    x   = embedding[ids]
    x  += o(softmax(q k^T + bias[bucket(key - query)]) v)      of RMS-normed x; no scale, one bias for all
    x  += wo(gelu(wi_0) * wi_1)                                of RMS-normed x
    out = RMS norm of x

The release runs it without an attention mask, so the padding takes part; all in float32 here.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gencompositor_jax.conversion.configs import Config
from gencompositor_jax.conversion.sources import Source
from gencompositor_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class T5Arch:
    """Sizes of a T5 encoder."""

    layers: int
    heads: int
    head_dim: int
    buckets: int
    max_distance: int
    eps: float
    gated: bool
    eos: int
    pad: int


def t5_arch(config: Config) -> T5Arch:
    """From its config.json. Raises InputError for feed-forwards other than relu and gated gelu."""
    kind = config.fields.get("feed_forward_proj", "relu")
    if kind not in ("relu", "gated-gelu"):
        raise config.wrong("feed_forward_proj", "known are relu and gated-gelu")
    return T5Arch(
        layers=config.integer("num_layers"),
        heads=config.integer("num_heads"),
        head_dim=config.integer("d_kv"),
        buckets=config.integer("relative_attention_num_buckets", 32),
        max_distance=config.integer("relative_attention_max_distance", 128),
        eps=config.number("layer_norm_epsilon", 1e-6),
        gated=kind == "gated-gelu",
        eos=config.integer("eos_token_id", 1, low=0),
        pad=config.integer("pad_token_id", 0, low=0),
    )


def padded(tokens: list[int], length: int, arch: T5Arch) -> np.ndarray:
    """Tokens with their end mark, cut or padded to int [length], as the release's tokenizer does it."""
    tokens = [*tokens[: length - 1], arch.eos]
    return np.array(tokens + [arch.pad] * (length - len(tokens)), np.int32)


def encode(source: Source, arch: T5Arch, ids: np.ndarray) -> np.ndarray:
    """Token ids int [B, L] -> embeddings float32 [B, L, D]."""
    table = "shared.weight"
    if not any(table in file.tensors for file in source.files):
        table = "encoder.embed_tokens.weight"
    rows = {i: source.read(table, slice(i, i + 1))[0] for i in np.unique(ids).tolist()}
    x = jnp.asarray(np.array([[rows[i] for i in line] for line in ids.tolist()]), jnp.float32)
    first = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    bias = position_bias(jnp.asarray(source.read(first), jnp.float32), ids.shape[1], arch)
    for i in range(arch.layers):
        x = _block(_block_weights(source, i, arch), x, bias, arch=arch)
        x.block_until_ready()
    return np.asarray(_rms_norm(x, _read(source, "encoder.final_layer_norm.weight"), arch.eps))


def position_bias(table: jax.Array, length: int, arch: T5Arch) -> jax.Array:
    """[buckets, heads] -> [heads, L, L]: half of the buckets for keys after the query; near ones exact,
    far ones on a logarithmic scale.
    """
    offset = np.arange(length)[None, :] - np.arange(length)[:, None]
    half = arch.buckets // 2
    exact = half // 2
    distance = np.abs(offset)
    with np.errstate(divide="ignore"):
        ratio = np.log(distance.astype(np.float32) / exact) / math.log(arch.max_distance / exact)
        far = exact + np.where(distance < exact, 0, ratio * (half - exact)).astype(np.int32)
    bucket = np.where(distance < exact, distance, np.minimum(far, half - 1)) + half * (offset > 0)
    return jnp.transpose(table[bucket], (2, 0, 1))


def _block_weights(source: Source, i: int, arch: T5Arch) -> dict[str, jax.Array]:
    attention, feed = f"encoder.block.{i}.layer.0.", f"encoder.block.{i}.layer.1."
    names = {
        "norm_1": f"{attention}layer_norm.weight",
        **{each: f"{attention}SelfAttention.{each}.weight" for each in "qkvo"},
        "norm_2": f"{feed}layer_norm.weight",
        "wo": f"{feed}DenseReluDense.wo.weight",
    }
    inner = ("wi_0", "wi_1") if arch.gated else ("wi",)
    names |= {each: f"{feed}DenseReluDense.{each}.weight" for each in inner}
    return {name: _read(source, tensor) for name, tensor in names.items()}


def _read(source: Source, name: str) -> jax.Array:
    array = source.read(name)
    if not np.isfinite(array.astype(np.float32)).all():
        raise InputError(f"{source.folder}: {name} holds NaN or infinity")
    return jnp.asarray(array)


@jax.jit
def _rms_norm(x: jax.Array, scale: jax.Array, eps: float) -> jax.Array:
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + eps) * scale.astype(jnp.float32)


def _linear(x: jax.Array, weight: jax.Array) -> jax.Array:
    return jnp.einsum("bld,ed->ble", x, weight.astype(jnp.float32))


def _block_impl(w: dict[str, jax.Array], x: jax.Array, bias: jax.Array, arch: T5Arch) -> jax.Array:
    def split(y: jax.Array) -> jax.Array:
        return y.reshape(*y.shape[:2], arch.heads, arch.head_dim)

    y = _rms_norm(x, w["norm_1"], arch.eps)
    q, k, v = (split(_linear(y, w[each])) for each in "qkv")
    weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k) + bias, axis=-1)
    heard = jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(*x.shape[:2], -1)
    x = x + _linear(heard, w["o"])
    y = _rms_norm(x, w["norm_2"], arch.eps)
    if arch.gated:
        y = jax.nn.gelu(_linear(y, w["wi_0"]), approximate=True) * _linear(y, w["wi_1"])
    else:
        y = jax.nn.relu(_linear(y, w["wi"]))
    return x + _linear(y, w["wo"])


_block: Any = jax.jit(_block_impl, static_argnames="arch")
