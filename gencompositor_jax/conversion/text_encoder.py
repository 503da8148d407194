"""Text embeddings by the T5 encoder (version 1.1, bidirectional), one block of weights in memory at a time.

    x   = embedding[ids]
    x  += o(softmax(q k^T + bias[bucket(key - query)]) v)      of RMS-normed x, without a scale
    x  += wo(gelu(wi_0) * wi_1)                                of RMS-normed x
    out = RMS norm of x

All blocks share the first one's position bias. The release runs the encoder without an attention mask, so the
padding is attended to. All is float32 here. The empty prompt is its end mark and padding, so it needs no
tokenizer; other prompts are tokenised by transformers, an optional dependency (the extra `convert`).
"""

import dataclasses
import hashlib
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from gencompositor_jax.conversion.arrays import all_finite
from gencompositor_jax.conversion.configs import Config
from gencompositor_jax.conversion.weights_folder import WeightsFolder
from gencompositor_jax.errors import DifferencesError, InputError, first_line, within
from gencompositor_jax.npy import read_npy

MAX_EMBEDDING = 2**26  # numbers; the release's has 226 x 4096


@dataclasses.dataclass(frozen=True)
class TextEmbeddings:
    """Embeddings float [L, D] of the empty prompt and of named prompts, and how they were made."""

    null: np.ndarray
    prompts: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """By their paths in a checkpoint."""
        return {"null_text": self.null, **{f"prompts/{name}": each for name, each in self.prompts.items()}}


def parse_prompts(given: list[str]) -> dict[str, str]:
    """["NAME=text", ...] -> {name: text}. Raises InputError."""
    prompts: dict[str, str] = {}
    for each in given:
        name, equals, text = each.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z0-9_-]+", name) or not text.strip():
            raise InputError(f'--prompt {each}: write NAME="text", the name of letters, digits, - and _')
        if name in prompts:
            raise InputError(f"--prompt {name}: given twice; use another name")
        prompts[name] = text
    return prompts


def read_null_text(file: Path) -> TextEmbeddings:
    """The empty prompt's embedding from a .npy file. Raises InputError."""
    with within("--null-text"):
        array = read_npy(file)
    if array.dtype not in (np.float16, np.float32, np.float64):
        raise InputError(f"--null-text {file}: expected floating-point numbers [tokens, width]")
    array = array[0] if array.ndim == 3 and len(array) == 1 else array
    if array.ndim != 2 or not 1 <= array.size <= MAX_EMBEDDING:
        raise InputError(f"--null-text {file}: shape {array.shape}, expected [tokens, width]")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    origin = {"null_text": {"file": file.name, "sha256": digest}}
    return TextEmbeddings(np.asarray(array, np.float32), {}, origin)


def embed(
    encoder: WeightsFolder,
    tokenizer: Path | None,
    prompts: Mapping[str, str],
    length: int,
    null: TextEmbeddings | None = None,
) -> TextEmbeddings:
    """Embeddings float32 [length, D] of the empty prompt, unless `null` is given, and of named prompts.

    Raises InputError where a prompt needs transformers or a tokenizer that is missing.
    """
    arch = t5_arch(encoder.config)
    _check(encoder, arch)
    lines = [] if null is not None else [padded([], length, arch)]
    if prompts:
        tokenize = load_tokenizer(tokenizer)
        lines += [padded(tokenize(text), length, arch) for text in prompts.values()]
    encoded = list(encode(encoder, arch, np.stack(lines))) if lines else []
    provenance = {"null_text": "computed by the text encoder"} if null is None else dict(null.provenance)
    first = encoded.pop(0) if null is None else null.null
    return TextEmbeddings(
        first, dict(zip(prompts, encoded, strict=True)), {**provenance, "prompts": dict(prompts)}
    )


def load_tokenizer(folder: Path | None) -> Callable[[str], list[int]]:
    """A function text -> token ids without the end mark. Raises InputError."""
    if folder is None:
        raise InputError("--prompt: no tokenizer folder was found; pass --tokenizer")
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise InputError("--prompt needs transformers: pip install 'gencompositor-jax[convert]'") from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:
        reason = first_line(error)
        raise InputError(f"{folder}: transformers can't load this tokenizer ({reason})") from error
    return lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]


# ---- The encoder.


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
    """Sizes from config.json. Raises InputError for feed-forwards other than relu and gated gelu."""
    kind = config.value("feed_forward_proj", Literal["relu", "gated-gelu"], "relu")
    return T5Arch(
        layers=config.integer("num_layers", high=1000),
        heads=config.integer("num_heads"),
        head_dim=config.integer("d_kv"),
        buckets=config.integer("relative_attention_num_buckets", 32, low=4, high=2**16),
        max_distance=config.integer("relative_attention_max_distance", 128, low=2),
        eps=config.number("layer_norm_epsilon", 1e-6),
        gated=kind == "gated-gelu",
        eos=config.integer("eos_token_id", 1, low=0),
        pad=config.integer("pad_token_id", 0, low=0),
    )


def _check(weights: WeightsFolder, arch: T5Arch) -> None:
    """Raise InputError where a tensor is missing or hasn't the configuration's size."""
    tensors = weights.tensors
    table = _table(weights)
    if table not in tensors or len(tensors[table].shape) != 2:
        raise InputError(f"{weights.folder}: {table} is missing or has no two axes")
    vocabulary, width = tensors[table].shape
    for name, token in (("eos_token_id", arch.eos), ("pad_token_id", arch.pad)):
        if token >= vocabulary:
            raise InputError(f"{weights.folder}: {name}={token}, but {table} has {vocabulary} rows")
    inner, problems = arch.heads * arch.head_dim, []
    for name, wanted in _expected(arch, width, inner):
        found = tensors.get(name)
        if found is None:
            problems.append(f"{name} is missing")
        elif len(found.shape) != len(wanted) or any(
            n not in (None, m) for n, m in zip(wanted, found.shape, strict=True)
        ):
            problems.append(f"{name} is {list(found.shape)}, config.json says {list(wanted)}")
    if problems:
        raise DifferencesError(f"{weights.folder}: doesn't fit its config.json", problems)


def _expected(arch: T5Arch, width: int, inner: int) -> Iterator[tuple[str, tuple[int | None, ...]]]:
    """Every tensor's name and shape; None for the inner width of the feed-forward."""
    yield _BIAS, (arch.buckets, arch.heads)
    yield "encoder.final_layer_norm.weight", (width,)
    for i in range(arch.layers):
        for name, tensor in _block_names(i, arch).items():
            if name.startswith("norm"):
                yield tensor, (width,)
            elif name in ("o", "wo"):
                yield tensor, (width, inner if name == "o" else None)
            else:
                yield tensor, (inner if name in "qkv" else None, width)


def _table(weights: WeightsFolder) -> str:
    """The tensor of the tokens' embeddings."""
    table = "shared.weight"
    return table if table in weights.tensors else "encoder.embed_tokens.weight"


_BIAS = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"


def padded(tokens: list[int], length: int, arch: T5Arch) -> np.ndarray:
    """Token ids with their end mark, truncated or padded to int32 [length] like the release's tokenizer."""
    tokens = [*tokens[: length - 1], arch.eos]
    return np.array(tokens + [arch.pad] * (length - len(tokens)), np.int32)


def encode(weights: WeightsFolder, arch: T5Arch, ids: np.ndarray) -> np.ndarray:
    """Token ids int [B, L] -> embeddings float32 [B, L, D]."""
    table = _table(weights)
    rows = {i: weights.read(table, slice(i, i + 1))[0] for i in np.unique(ids).tolist()}
    x = jnp.asarray(np.array([[rows[i] for i in line] for line in ids.tolist()]), jnp.float32)
    bias = position_bias(jnp.asarray(weights.read(_BIAS), jnp.float32), ids.shape[1], arch)
    for i in range(arch.layers):
        x = _block(_block_weights(weights, i, arch), x, bias, arch=arch)
        x.block_until_ready()
    return np.asarray(_rms_norm(x, _read(weights, "encoder.final_layer_norm.weight"), arch.eps))


def position_bias(table: jax.Array, length: int, arch: T5Arch) -> jax.Array:
    """[buckets, heads] -> [heads, L, L].

    Half of the buckets are for keys after the query; small distances have a bucket each, larger ones share
    buckets on a logarithmic scale.
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


def _block_weights(weights: WeightsFolder, i: int, arch: T5Arch) -> dict[str, jax.Array]:
    return {name: _read(weights, tensor) for name, tensor in _block_names(i, arch).items()}


def _block_names(i: int, arch: T5Arch) -> dict[str, str]:
    attention, feed = f"encoder.block.{i}.layer.0.", f"encoder.block.{i}.layer.1."
    names = {
        "norm_1": f"{attention}layer_norm.weight",
        **{each: f"{attention}SelfAttention.{each}.weight" for each in "qkvo"},
        "norm_2": f"{feed}layer_norm.weight",
        "wo": f"{feed}DenseReluDense.wo.weight",
    }
    inner = ("wi_0", "wi_1") if arch.gated else ("wi",)
    return names | {each: f"{feed}DenseReluDense.{each}.weight" for each in inner}


def _read(weights: WeightsFolder, name: str) -> jax.Array:
    array = weights.read(name)
    if not all_finite(array):
        raise InputError(f"{weights.folder}: {name} holds NaN or infinity")
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
    mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(*x.shape[:2], -1)
    x = x + _linear(mixed, w["o"])
    y = _rms_norm(x, w["norm_2"], arch.eps)
    if arch.gated:
        y = jax.nn.gelu(_linear(y, w["wi_0"]), approximate=True) * _linear(y, w["wi_1"])
    else:
        y = jax.nn.relu(_linear(y, w["wi"]))
    return x + _linear(y, w["wo"])


_block: Any = jax.jit(_block_impl, static_argnames="arch")
