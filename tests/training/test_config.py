from pathlib import Path

import ml_collections
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gencompositor_jax.errors import InputError
from gencompositor_jax.training.config import flatten, load_config, near, parse

CONFIGS = Path(__file__).parents[2] / "configs"
LARGE = str(CONFIGS / "gencompositor_6b.py")


def test_argument_and_overrides():
    overrides = ["optimizer.learning_rate=3e-4", "steps=7", "data.path=elsewhere", "remat=none", "init=5"]
    config = load_config(f"{LARGE}:release", overrides)
    assert config.trainable == "^backbone/"  # the argument's
    assert config.optimizer.learning_rate == 3e-4
    assert config.steps == 7
    assert config.data.path == "elsewhere"
    assert config.remat == "none"
    assert config.init == "5"  # text stays text


def test_lists_in_overrides_become_tuples():
    rules = '[["attention/.*kernel$", [None, "fsdp", ["context", "tensor"]]], (".*", ())]'
    config = load_config(LARGE, [f"sharding.rules={rules}", "data.gamma=1,2"])
    assert config.sharding.rules == (
        ("attention/.*kernel$", (None, "fsdp", ("context", "tensor"))),
        (".*", ()),
    )
    assert config.data.gamma == (1.0, 2.0)
    assert all(isinstance(part, float) for part in config.data.gamma)


def test_optional_values_are_set_and_unset():
    assert load_config(LARGE).checkpoint.keep_every is None
    assert load_config(LARGE, ["checkpoint.keep_every=500"]).checkpoint.keep_every == 500
    assert load_config(LARGE, ["checkpoint.keep_every=none"]).checkpoint.keep_every is None


def test_arch_changes_takes_any_key():
    overrides = ["arch_changes.frames=17", "arch_changes.backbone.num_layers=2", "arch_changes.layout=time"]
    changes = load_config(LARGE, overrides).arch_changes
    assert flatten(changes) == {"frames": 17, "backbone.num_layers": 2, "layout": "time"}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("learning_rate=1", r"unknown key; did you mean optimizer\.learning_rate\?"),
        ("optimizer.learnig_rate=1", r"unknown key; did you mean optimizer\.learning_rate\?"),
        ("mesh.zzz=1", r"unknown key; known are mesh\.context, mesh\.data, mesh\.fsdp, mesh\.tensor$"),
        ("zzz=1", "unknown key; known are .*, trainable,"),
        ("optimizer=1", "is a section with the keys .*optimizer.learning_rate"),
        ("arch_changes=1", "arch_changes.frames=17"),
        ("steps", "pass --config.KEY=VALUE"),
        ("steps=many", "config.steps=many: pass a whole number"),
        ("steps=2.5", "pass a whole number"),
        ("steps=true", "pass a whole number"),
        ("steps=none", "pass a whole number"),
        ("data.flip=1", "pass true or false"),
        ("remat=true", "config.remat=.true.: known are none, blocks, offload"),
        ("optimizer.clip=nan", "pass a number"),
        ("data.gamma=1", "pass 2 numbers such as 0.4,1.9"),
        ("data.gamma=1,2,3", "pass 2 numbers"),
        ("data.gamma=a,b", "pass 2 numbers"),
        ("sharding.rules=3", "pass a tuple"),
        ("sharding.rules=('a',)", "not .regular expression, .axis"),
        ("sharding.rules=(('(', ()),)", "config.sharding.rules='.': not a regular expression"),
        ("trainable=(", "config.trainable='.': not a regular expression"),
        ("steps=0", "config.steps=0: pass 1 to 1e"),
        ("optimizer.ema=1.5", "pass 0 to 1"),
        ("compute_dtype=int8", "known are float32"),
    ],
)
def test_overrides_that_do_not_fit(override, message):
    with pytest.raises(InputError, match=message):
        load_config(LARGE, [override])


def test_a_field_of_a_value_is_refused():
    with pytest.raises(InputError, match="frames is a value"):
        load_config(LARGE, ["arch_changes.frames=17", "arch_changes.frames.x=1"])


@pytest.mark.parametrize("name", ["tiny", "configs/tiny.py"])
def test_a_packaged_config_is_found_from_any_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config(f"{name}:runlocal", ["steps=7"]).batch_size == 2


def test_a_file_is_preferred_to_a_packaged_config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "tiny.py").write_text(
        "from gencompositor_jax.configs.common import base\n"
        "def get_config(arg):\n    config = base()\n    config.steps = 3\n    return config\n"
    )
    assert load_config("configs/tiny.py").steps == 3
    assert load_config("tiny").steps == 4_500


def test_an_unknown_config_is_an_error_that_lists_the_packaged_ones():
    for name in ("teeny", "configs/common.py2", "common"):
        with pytest.raises(
            InputError, match=f"--config {name}: no such file.*: ablations, distill, gencompositor_6b, tiny$"
        ):
            load_config(name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        ("x = 1", "get_config"),
        ("def get_config(arg)\n    pass", "line 1"),
        ("def get_config(arg):\n    return {}", "must return a ConfigDict"),
        ("def get_config(arg):\n    raise ValueError('unknown argument')", "unknown argument"),
    ],
)
def test_files_that_are_not_configs(tmp_path, text, message):
    file = tmp_path / "c.py"
    if text is not None:
        file.write_text(text)
    with pytest.raises(InputError, match=message):
        load_config(str(file))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("config.optimizer.learnin_rate = 1.0", "learnin_rate"),
        ("config.optimzer.learning_rate = 1.0", "optimzer"),
        ("config.steps = 2.5", "steps"),
        ("config.batch_size = 0", "batch_size=0"),
    ],
)
def test_a_config_file_with_an_unknown_key_or_a_bad_value_is_refused(tmp_path, line, message):
    file = tmp_path / "mine.py"
    file.write_text(
        "from gencompositor_jax.configs.common import base\n"
        f"def get_config(arg):\n    config = base()\n    {line}\n    return config\n"
    )
    with pytest.raises(InputError, match=message) as caught:
        load_config(str(file))
    assert len(str(caught.value)) < 300  # the reason only, not the whole config


def test_a_config_cannot_grow_keys():
    with pytest.raises(AttributeError):
        load_config(LARGE).stesp = 3


@given(st.floats(allow_nan=False))
def test_numbers_are_parsed_as_python_prints_them(number):
    assert parse(repr(number), float) == number


@given(st.integers(-(10**15), 10**15))
def test_integers_are_exact_and_may_be_written_as_floats(number):
    assert parse(str(number), int) == number
    assert parse(f"{float(number)!r}", int) == number


@given(st.recursive(st.none() | st.text(max_size=5) | st.integers(), st.lists, max_leaves=8))
def test_nested_lists_become_tuples(value):
    def has_list(part):
        return isinstance(part, list) or (isinstance(part, tuple) and any(map(has_list, part)))

    assert not has_list(parse(repr([value]), tuple))


def test_similar_names():
    known = ["data.path", "data.workers", "optimizer.b1", "optimizer.b2", "log_every", "validation.every"]
    assert near("wokers", known) == ["data.workers"]
    assert near("data.pth", known) == ["data.path"]
    assert near("checkpoint.every", known) == ["validation.every"]
    assert near("colour", known) == []


def test_flatten_names_every_value_once():
    config = ml_collections.ConfigDict({"a": 1, "b": {"c": (1, 2), "d": {"e": None}}, "f": {}})
    assert flatten(config) == {"a": 1, "b.c": (1, 2), "b.d.e": None}
