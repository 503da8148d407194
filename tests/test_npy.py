import os
from pathlib import Path

import numpy as np
import pytest

from gencompositor_jax.errors import InputError
from gencompositor_jax.npy import read_npy, read_npz
from tests.doors.arrays import archive, header_only, npy


def test_sound_files(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", a=array, b=np.str_("text"))
    np.testing.assert_array_equal(read_npy(tmp_path / "a.npy"), array)
    found = read_npz(tmp_path / "a.npz")
    np.testing.assert_array_equal(found["a"], array)
    assert str(found["b"]) == "text"


@pytest.mark.parametrize(
    "content",
    [
        header_only("<f4", "(1099511627776, 2)"),
        header_only("<f4", "(10**12,)"),
        header_only("O", "(6, 24)"),
        header_only("<f4", "(" * 200 + ")" * 200),
        b"",
        npy(np.zeros(9))[:-8],
    ],
    ids=["8 TiB", "expression", "objects", "nested", "empty", "cut"],
)
def test_what_a_header_states_is_not_trusted(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    (tmp_path / "a.npz").write_bytes(archive({"a.npy": content}))
    for read, name in ((read_npy, "a.npy"), (read_npz, "a.npz")):
        with pytest.raises(InputError, match=rf"{name}: not readable as a \.np"):
            read(tmp_path / name)


def test_the_header_of_an_archives_array_is_compared_before_memory_is_allocated(tmp_path: Path) -> None:
    for shape, says in (("(1099511627776, 2)", "has the shape"), ("(9, 9)", "another size than its header")):
        (tmp_path / "a.npz").write_bytes(archive({"a.npy": header_only("<f4", shape)}, compressed=False))
        with pytest.raises(InputError, match=says):
            read_npz(tmp_path / "a.npz")


def test_compressed_archives_are_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(2**20))
    with pytest.raises(InputError, match="is compressed"):
        read_npz(tmp_path / "a.npz")


def test_a_fifo_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a")
    for read in (read_npy, read_npz):
        with pytest.raises(InputError, match="is a device, pipe or socket"):
            read(tmp_path / "a")
