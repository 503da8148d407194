"""Text embeddings of a conversion."""

import json
from pathlib import Path

import numpy as np
import pytest

from gencompositor_jax import checkpoints
from gencompositor_jax.conversion import text_encoder
from gencompositor_jax.conversion.configs import Config
from gencompositor_jax.errors import InputError
from tests.conversion.conftest import write_tensors

CONFIG = {
    "num_layers": 2,
    "num_heads": 3,
    "d_kv": 4,
    "d_model": 24,
    "d_ff": 20,
    "vocab_size": 40,
    "feed_forward_proj": "gated-gelu",
    "eos_token_id": 1,
    "pad_token_id": 0,
}


@pytest.fixture
def encoder(release):
    """A tiny T5 encoder with random weights, beside the other components."""
    rng = np.random.default_rng(3)
    d, inner, ff = CONFIG["d_model"], CONFIG["num_heads"] * CONFIG["d_kv"], CONFIG["d_ff"]
    shapes = {"shared.weight": (CONFIG["vocab_size"], d), "encoder.final_layer_norm.weight": (d,)}
    for i in range(CONFIG["num_layers"]):
        block = f"encoder.block.{i}.layer."
        shapes |= {f"{block}0.SelfAttention.{n}.weight": (inner, d) for n in "qkv"}
        shapes |= {f"{block}0.SelfAttention.o.weight": (d, inner), f"{block}0.layer_norm.weight": (d,)}
        shapes |= {f"{block}1.DenseReluDense.wi_{n}.weight": (ff, d) for n in "01"}
        shapes |= {f"{block}1.DenseReluDense.wo.weight": (d, ff), f"{block}1.layer_norm.weight": (d,)}
    shapes["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"] = (32, CONFIG["num_heads"])
    tensors = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    folder = release / "text_encoder"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    write_tensors(folder / "model.safetensors", tensors)
    return folder


def arch() -> text_encoder.T5Arch:
    return text_encoder.t5_arch(Config(Path("config.json"), CONFIG))


def test_the_empty_prompt_needs_no_tokenizer(release, encoder, convert):
    null = checkpoints.load(convert(null=False)).arrays["null_text"]
    assert null.shape == (6, 24) and np.isfinite(null).all()
    assert np.ptp(null, axis=0).min() > 0, "position matters"
    expected = text_encoder.padded([], 6, arch())
    np.testing.assert_array_equal(expected, [1, 0, 0, 0, 0, 0])


def test_truncated_prompts_keep_their_end_mark():
    np.testing.assert_array_equal(text_encoder.padded([5, 6, 7, 8], 3, arch()), [5, 6, 1])


def test_named_prompts_are_stored(release, encoder, convert, monkeypatch):
    monkeypatch.setattr(
        text_encoder, "load_tokenizer", lambda folder: lambda line: [len(word) for word in line.split()]
    )
    out = convert("--prompt", "sea=a boat sails", "--prompt", "sky=birds", null=False)
    model = checkpoints.load(out)
    assert set(model.prompts) == {"sea", "sky"}
    assert model.provenance["prompts"] == {"sea": "a boat sails", "sky": "birds"}
    arrays = [model.arrays["null_text"], *model.prompts.values()]
    assert all(np.abs(a - b).max() > 0.1 for i, a in enumerate(arrays) for b in arrays[:i])
    checkpoints.save(out.with_name("again"), model)
    np.testing.assert_array_equal(
        checkpoints.load(out.with_name("again")).prompts["sea"], model.prompts["sea"]
    )


def test_prompts_need_a_tokenizer(release, encoder, convert):
    with pytest.raises(InputError, match="no tokenizer folder was found; pass --tokenizer"):
        convert("--prompt", "sea=a boat")


@pytest.mark.parametrize("prompt", ["a boat", "a/b=boat", "=boat", "sea= "])
def test_bad_prompts(prompt):
    with pytest.raises(InputError, match='write NAME="text"'):
        text_encoder.parse_prompts([prompt])


def test_null_text_or_text_encoder(release, convert):
    with pytest.raises(
        InputError, match=r"no text_encoder folder .* --text-encoder \(or --null-text FILE\.npy\)"
    ):
        convert(null=False)


def test_an_unsupported_feed_forward_is_refused(release, encoder, convert):
    (encoder / "config.json").write_text(json.dumps(CONFIG | {"feed_forward_proj": "gated-silu"}))
    with pytest.raises(InputError, match=r"text_encoder/config\.json: feed_forward_proj: 'gated-silu'"):
        convert(null=False)
