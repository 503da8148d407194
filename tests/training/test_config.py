from pathlib import Path

import pytest

from gencompositor_jax.arch import tiny
from gencompositor_jax.errors import InputError
from gencompositor_jax.training.config import load_config
from gencompositor_jax.training.state import make_arch

TINY = str(Path(__file__).parents[2] / "configs" / "tiny.py")


def test_argument_and_overrides():
    config = load_config(f"{TINY}:gpu", ["optimizer.learning_rate=3e-4", "steps=7", "data.cache=elsewhere"])
    assert config.arch == "small"
    assert config.optimizer.learning_rate == 3e-4
    assert config.steps == 7
    assert config.data.cache == "elsewhere"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("learning_rate=1", "unknown key; known are .*optimizer.learning_rate"),
        ("optimizer=1", "unknown key"),
        ("steps", "pass --config.KEY=VALUE"),
        ("steps=many", "steps=many"),
    ],
)
def test_overrides_that_do_not_fit(override, message):
    with pytest.raises(InputError, match=message):
        load_config(TINY, [override])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        ("x = 1", "get_config"),
        ("def get_config(arg):\n    raise ValueError('unknown argument')", "unknown argument"),
    ],
)
def test_files_that_are_no_config(tmp_path, text, message):
    file = tmp_path / "c.py"
    if text is not None:
        file.write_text(text)
    with pytest.raises(InputError, match=message):
        load_config(str(file))


def test_presets_by_name():
    assert make_arch(load_config(TINY)) == tiny()
    with pytest.raises(InputError, match="arch=huge: known are tiny"):
        make_arch(load_config(TINY, ["arch=huge"]))


def test_a_config_cannot_grow_keys():
    with pytest.raises(AttributeError):
        load_config(TINY).stesp = 3
