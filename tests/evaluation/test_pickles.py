"""Pickles of arrays are read without PyTorch and without running anything else that they name."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from gencompositor_jax.errors import InputError
from gencompositor_jax.evaluation.pickles import read_arrays


def test_nested_numpy_arrays(tmp_path):
    tree = {"params": {"a": np.arange(6.0).reshape(2, 3), "b": np.array([True, False])}, "n": 3}
    (tmp_path / "tree").write_bytes(pickle.dumps(tree))
    found = read_arrays(tmp_path / "tree")
    np.testing.assert_array_equal(found["params"]["a"], tree["params"]["a"])
    np.testing.assert_array_equal(found["params"]["b"], tree["params"]["b"])
    assert found["n"] == 3


class Runs:
    def __reduce__(self):
        return os.mkdir, ("made-by-a-pickle",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_code_is_refused_and_not_run(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    Path("bad").write_bytes(pickle.dumps({"a": Runs()}, protocol))
    with pytest.raises(InputError, match="mkdir, which is refused"):
        read_arrays(Path("bad"))
    assert not Path("made-by-a-pickle").exists()


class Objects:
    """An array whose numbers would be addresses of objects, if its dtype was believed."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __reduce__(self):
        dtype = Call(np.dtype, (self.code, False, True), (3, "|", None, None, None, -1, -1, 63))
        return np.zeros(0).__reduce__()[0], (np.ndarray, (0,), b"b"), (1, (2,), dtype, False, b"\x41" * 16)


class Call:
    def __init__(self, *what) -> None:
        self.what = what

    def __reduce__(self):
        return self.what


@pytest.mark.parametrize("code", ["O8", "V8", "U2", "M8"])
def test_arrays_of_anything_but_numbers_are_refused(tmp_path, code):
    (tmp_path / "bad").write_bytes(pickle.dumps({"a": Objects(code)}, 4))
    with pytest.raises(InputError, match="isn't a file of arrays only"):
        read_arrays(tmp_path / "bad")


def test_what_a_dtype_says_of_objects_is_not_believed(tmp_path):
    (tmp_path / "f8").write_bytes(pickle.dumps({"a": Objects("f8")}, 4))
    found = read_arrays(tmp_path / "f8")["a"]
    assert found.dtype == np.float64 and found.tobytes() == b"\x41" * 16


def test_orders_of_bytes_and_of_axes(tmp_path):
    tree = {"big": np.arange(3, dtype=">i4"), "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3))}
    (tmp_path / "tree").write_bytes(pickle.dumps(tree, 4))
    for name, array in read_arrays(tmp_path / "tree").items():
        np.testing.assert_array_equal(array, tree[name])


def test_damaged_files_are_refused_or_read(tmp_path):
    """No damage of a byte ends the process, or is another error."""
    whole = pickle.dumps({"a": np.arange(40.0), "b": np.ones((2, 3), np.float32)}, 4)
    rng, refused = np.random.default_rng(0), 0
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] = rng.integers(256)
        (tmp_path / "damaged").write_bytes(damaged)
        try:
            read_arrays(tmp_path / "damaged")
        except InputError:
            refused += 1
    assert 20 < refused < 300


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps([1, 2]), pickle.dumps(print)])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(InputError):
        read_arrays(tmp_path / "other")
    with pytest.raises(InputError, match="can't be read"):
        read_arrays(tmp_path / "missing")


@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_torch_save(tmp_path, zipped):
    torch = pytest.importorskip("torch", reason="comes with the extra parity")
    base = torch.arange(24.0).reshape(4, 6)
    state = {"whole": base, "part": base[1:, ::2].T, "half": base.half(), "count": torch.tensor(7)}
    file = tmp_path / "state.pth"
    torch.save({"state_dict": state}, file, _use_new_zipfile_serialization=zipped)
    found = read_arrays(file)
    for name, tensor in state.items():
        np.testing.assert_array_equal(found[name], tensor.numpy(), err_msg=name)
        assert found[name].dtype == tensor.numpy().dtype
    if not zipped:
        file.write_bytes(file.read_bytes()[:-9])
        with pytest.raises(InputError, match="cut short"):
            read_arrays(file)
