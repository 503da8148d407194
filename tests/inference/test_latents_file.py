from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gencompositor_jax.errors import InputError
from gencompositor_jax.inference import latents_file
from gencompositor_jax.inference.latents_file import LayerLatents, fingerprint


def drawn(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((1, 3, 4, 6, 2)).astype(np.float32)


def test_layers_come_back_where_they_were_made_from_the_same(tmp_path: Path) -> None:
    path = tmp_path / "out.latents.npz"
    assert LayerLatents(path, 0, "a").read() is None
    for layer in range(3):
        LayerLatents(path, layer, f"made {layer}").write(drawn(layer))
    for layer in range(3):
        found = LayerLatents(path, layer, f"made {layer}").read()
        assert found is not None
        np.testing.assert_array_equal(found, drawn(layer))
        assert LayerLatents(path, layer, "made otherwise").read() is None
    assert LayerLatents(path, 3, "made 3").read() is None
    # A new layer discards those after it: they were made over it.
    LayerLatents(path, 1, "made anew").write(drawn(9))
    assert (
        LayerLatents(path, 0, "made 0").read() is not None and LayerLatents(path, 2, "made 2").read() is None
    )
    assert [p.name for p in tmp_path.iterdir()] == ["out.latents.npz"]


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.latents.npz"
    LayerLatents(path, 0, "a").write(drawn(0))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(InputError, match="disk is full"):
        LayerLatents(path, 1, "b").write(drawn(1))
    assert LayerLatents(path, 0, "a").read() is not None
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("content", ["", "text", "npy", "npz", "cut"])
def test_other_files_are_refused_and_stay(tmp_path: Path, content: str) -> None:
    path = tmp_path / "mine.npz"
    if content in ("npy", "npz"):
        with path.open("wb") as file:
            np.save(file, drawn(0)) if content == "npy" else np.savez(file, other=drawn(0))
    elif content == "cut":
        LayerLatents(path, 0, "a").write(drawn(0))
        path.write_bytes(path.read_bytes()[:-200])
    else:
        path.write_text(content)
    before = path.read_bytes()
    for use in (
        latents_file.read,
        lambda p: LayerLatents(p, 0, "a").read(),
        lambda p: LayerLatents(p, 0, "a").write(drawn(1)),
    ):
        with pytest.raises(InputError, match=r"mine\.npz: .* latents.*; delete it"):
            use(path)
    assert path.read_bytes() == before


@given(st.integers(0, 2), st.integers(0, 23), st.sampled_from(["dpm", "ddim"]))
def test_a_fingerprint_is_of_everything(which: int, place: int, solver: str) -> None:
    arrays = [np.zeros(24, np.float32), np.zeros((4, 6), np.float32), np.zeros((2, 12), np.int32)]
    first = fingerprint({"solver": "dpm"}, arrays)
    assert fingerprint({"solver": "dpm"}, [a.copy() for a in arrays]) == first
    assert (fingerprint({"solver": solver}, arrays) == first) == (solver == "dpm")
    arrays[which].flat[place] = 1
    assert fingerprint({"solver": "dpm"}, arrays) != first
    assert fingerprint({}, [np.zeros((4, 6))]) != fingerprint({}, [np.zeros((6, 4))])
