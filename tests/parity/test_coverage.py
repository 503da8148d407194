"""Every recorded case is tested."""

import pathlib

import pytest

from tests.recordings import FOLDER

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.npz")))
def test_every_recorded_case_is_read_by_a_test(name):
    sources = [path.read_text(encoding="utf-8") for path in pathlib.Path(__file__).parent.glob("*.py")]
    assert any(f'"{name}"' in source for source in sources)
