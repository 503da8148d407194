"""Prompt embeddings of a conversion against transformers' T5 encoder, run as the release runs it: no mask."""

import itertools
import json
import pathlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gencompositor_jax.conversion import text_encoder
from gencompositor_jax.conversion.weights_folder import open_weights
from tests.parity.live.pairs import few, randomise, seeds
from tests.parity.released import assert_near

pytestmark = [pytest.mark.parity, pytest.mark.slow]
TOLERANCE = 2e-5
VOCABULARY = 64


@st.composite
def encoders(draw: st.DrawFn) -> dict[str, object]:
    heads = draw(st.integers(1, 3))
    return {
        "vocab_size": VOCABULARY,
        "d_model": 8 * draw(st.integers(1, 4)),
        "d_kv": draw(st.sampled_from([6, 8])),
        "d_ff": draw(st.sampled_from([10, 24])),
        "num_layers": draw(st.integers(1, 3)),
        "num_heads": heads,
        "relative_attention_num_buckets": draw(st.sampled_from([8, 32])),
        "relative_attention_max_distance": draw(st.sampled_from([16, 128])),
        "feed_forward_proj": draw(st.sampled_from(["gated-gelu", "relu"])),
    }


def saved(folder: pathlib.Path, config: dict[str, object], seed: int):
    """transformers' encoder with random weights, written to `folder` as a release writes it."""
    from transformers import T5Config, T5EncoderModel

    encoder = T5EncoderModel(T5Config(**config))
    randomise(encoder, np.random.default_rng(seed))
    encoder.save_pretrained(folder)
    return encoder


@few(6)
@given(config=encoders(), words=st.integers(0, 12), length=st.integers(2, 40), seed=seeds)
def test_encoder(tmp_path_factory, config: dict[str, object], words: int, length: int, seed: int) -> None:
    import torch

    folder = tmp_path_factory.mktemp("text_encoder")
    encoder = saved(folder, config, seed)
    weights = open_weights("text_encoder", folder)
    arch = text_encoder.t5_arch(weights.config)
    tokens = np.random.default_rng(seed).integers(2, VOCABULARY, words).tolist()
    ids = np.stack([text_encoder.padded([], length, arch), text_encoder.padded(tokens, length, arch)])
    given = torch.from_numpy(ids.astype(np.int64))
    ours = text_encoder.encode(weights, arch, ids)
    assert_near(ours, encoder(given)[0].numpy(), TOLERANCE)
    # Padding is attended to: a mask of the real tokens would change their embeddings.
    if length > 2:
        masked = encoder(given, attention_mask=(given != arch.pad).long())[0].numpy()
        assert np.abs(masked[0, 0] - ours[0, 0]).max() > 100 * TOLERANCE


def test_prompts_are_cut_and_padded_as_the_release_does(tmp_path) -> None:
    """A real tokenizer, with prompts shorter and longer than the number of tokens, and the empty one."""
    import torch

    tokenizer = sentencepiece_tokenizer(tmp_path / "tokenizer")
    length = 9
    config: dict[str, object] = {"vocab_size": len(tokenizer), "d_model": 16, "d_kv": 8, "d_ff": 24}
    encoder = saved(tmp_path / "text_encoder", {**config, "num_layers": 2, "num_heads": 2}, seed=0)
    prompts = {"short": "a moving cat", "long": "the cat is moving over the red street " * 4}
    result = text_encoder.embed(
        open_weights("text_encoder", tmp_path / "text_encoder"),
        tmp_path / "tokenizer",
        prompts,
        length,
    )
    for ours, prompt in ((result.null, ""), *((result.prompts[name], prompts[name]) for name in prompts)):
        ids = tokenizer(
            prompt, padding="max_length", max_length=length, truncation=True, add_special_tokens=True
        )["input_ids"]
        assert len(ids) == length
        assert_near(ours, encoder(torch.tensor([ids]))[0][0].numpy(), TOLERANCE, prompt)


def sentencepiece_tokenizer(folder: pathlib.Path):
    """A T5 tokenizer of a few made-up sentences, in the files that a release's folder has."""
    sentencepiece = pytest.importorskip("sentencepiece", reason="pip install -e '.[parity]'")
    from transformers import AutoTokenizer

    folder.mkdir()
    parts = ("a", "the"), ("cat", "dog", "bird"), ("moving", "running", "flying"), ("red", "green", "grey")
    sentences = [f"{a} {b} is {c} over the {d} street" for a, b, c, d in itertools.product(*parts)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_prefix=str(folder / "spiece"),
        vocab_size=26,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    facts = {"tokenizer_class": "T5Tokenizer", "eos_token": "</s>", "pad_token": "<pad>", "extra_ids": 0}
    (folder / "tokenizer_config.json").write_text(json.dumps(facts))
    return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
