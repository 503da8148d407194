import numpy as np
import pytest

from gencompositor_jax.data_pipelines.broken import LISTED, Broken
from gencompositor_jax.errors import InputError


class Names:
    """A source of 200 records; nothing is read from it."""

    def __len__(self) -> int:
        return 200

    def name(self, index: int) -> str:
        return f"clip{index}.mp4"

    def read(self, *_: object) -> dict[str, np.ndarray]:
        raise AssertionError("no record is read")


def test_each_record_is_named_once(capsys):
    broken = Broken(Names(), 0.5)
    broken.see(np.array([[-1, -1], [7, -1]]))
    broken.see(np.full((2, 2), -1))
    broken.see(np.array([[7, 9], [9, -1]]))
    assert broken.found == {7, 9}
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and "clip7.mp4" in lines[0] and "clip9.mp4" in lines[1]


def test_more_than_the_fraction_stops_with_names(capsys):
    broken = Broken(Names(), 0.01)
    broken.see(np.array([3]))
    broken.see(np.array([5, 3]))  # two of 200: exactly the fraction
    with pytest.raises(InputError) as error:
        broken.see(np.array([150]))
    for words in ("clip3.mp4", "clip5.mp4", "clip150.mp4", "3 of 200", "data.max_broken=0.01"):
        assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_long_list_is_shortened_but_complete_on_stderr(capsys):
    with pytest.raises(InputError, match=f"and {120 - LISTED} more"):
        Broken(Names(), 0.1).see(np.arange(120))
    assert len(capsys.readouterr().err.splitlines()) == 120


def test_zero_allows_none():
    with pytest.raises(InputError, match="clip0.mp4"):
        Broken(Names(), 0.0).see(np.array([0]))


@pytest.mark.parametrize("fraction", [-0.1, 1.5, float("nan")])
def test_a_fraction_out_of_range_is_refused(fraction):
    with pytest.raises(InputError, match=r"data\.max_broken"):
        Broken(Names(), fraction)
