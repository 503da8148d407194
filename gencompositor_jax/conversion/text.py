"""Text embeddings of a conversion: the empty prompt's, and those of named prompts.

The empty prompt needs no tokenizer: it is the end mark and padding. Other prompts are cut into tokens by
transformers (an optional dependency: the extra `convert`).
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from gencompositor_jax.conversion import t5
from gencompositor_jax.conversion.configs import Config
from gencompositor_jax.conversion.convert import Text
from gencompositor_jax.conversion.sources import Source
from gencompositor_jax.errors import InputError


def parse_prompts(given: list[str]) -> dict[str, str]:
    """["NAME=text", ...] -> {name: text}. Raises InputError."""
    prompts: dict[str, str] = {}
    for each in given:
        name, equals, text = each.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z0-9_-]+", name) or not text.strip():
            raise InputError(f'--prompt {each}: write NAME="text", the name of letters, digits, - and _')
        if name in prompts:
            raise InputError(f"--prompt {name}: given twice")
        prompts[name] = text
    return prompts


def read_null_text(file: Path) -> Text:
    """The empty prompt's embedding from a .npy file. Raises InputError."""
    try:
        array = np.load(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"--null-text {file}: not readable as a .npy file of numbers ({error})") from error
    if not isinstance(array, np.ndarray) or array.dtype not in (np.float16, np.float32, np.float64):
        raise InputError(f"--null-text {file}: expected float numbers [tokens, width]")
    array = array[0] if array.ndim == 3 and len(array) == 1 else array
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return Text(array.astype(np.float32), {}, {"null_text": {"file": file.name, "sha256": digest}})


def embed(
    encoder: Source, tokenizer: Path | None, prompts: Mapping[str, str], tokens: int, null: Text | None = None
) -> Text:
    """Embeddings float32 [tokens, D] of the empty prompt, unless it is given, and of named prompts.

    Raises InputError where a prompt needs transformers or a tokenizer and there is none.
    """
    if encoder.config is None:
        raise InputError(
            f"{encoder.config_file}: missing; put the text encoder's config.json beside its weights"
        )
    arch = t5.t5_arch(Config(encoder.config_file, encoder.config))
    lines = [] if null is not None else [t5.padded([], tokens, arch)]
    if prompts:
        cut = load_tokenizer(tokenizer)
        lines += [t5.padded(cut(text), tokens, arch) for text in prompts.values()]
    encoded = list(t5.encode(encoder, arch, np.stack(lines))) if lines else []
    provenance = {"null_text": "computed by the text encoder"} if null is None else dict(null.provenance)
    first = encoded.pop(0) if null is None else null.null
    return Text(first, dict(zip(prompts, encoded, strict=True)), {**provenance, "prompts": dict(prompts)})


def load_tokenizer(folder: Path | None) -> Callable[[str], list[int]]:
    """A function text -> token ids without the end mark. Raises InputError where it can't be had."""
    if folder is None:
        raise InputError("--prompt: no tokenizer folder was found; pass --tokenizer")
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise InputError("--prompt needs transformers: pip install 'gencompositor-jax[convert]'") from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{folder}: transformers can't read this tokenizer ({reason})") from error
    return lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]
