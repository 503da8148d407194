"""The configs that are shipped: they load with every argument and have the values that they document."""

import itertools
import re
import shlex
from pathlib import Path

import pytest

from gencompositor_jax import arch as arch_lib
from gencompositor_jax.configs.common import base, switches
from gencompositor_jax.errors import InputError
from gencompositor_jax.training.config import flatten, load_config

ROOT = Path(__file__).parents[1]
SWITCHES = {
    "gencompositor_6b": ("release", "lora", "runlocal"),
    "tiny": ("gpu", "linear", "runlocal"),
    "distill": ("released", "runlocal"),
}
ONE_OF = {"ablations"}  # their arguments exclude each other: tests/ablation/test_configs.py
LARGE = str(ROOT / "configs" / "gencompositor_6b.py")


def load(name, arg="", overrides=()):
    return load_config(str(ROOT / "configs" / f"{name}.py") + (f":{arg}" if arg else ""), overrides)


def test_every_config_is_tested_here():
    shipped = {path.stem for path in (ROOT / "configs").glob("*.py")} - {"__init__", "common"}
    assert shipped == set(SWITCHES) | ONE_OF


@pytest.mark.parametrize("name", SWITCHES)
def test_every_combination_of_arguments_loads(name):
    known = SWITCHES[name]
    for count in range(len(known) + 1):
        for given in itertools.combinations(known, count):
            load(name, ",".join(given))


@pytest.mark.parametrize("name", SWITCHES)
def test_every_config_documents_its_arguments_and_refuses_others(name):
    doc = (ROOT / "configs" / f"{name}.py").read_text().split('"""')[1]
    for switch in SWITCHES[name]:  # as :switch, or as a row of a table
        assert re.search(rf"(:|^ +){switch}\b", doc, re.MULTILINE), switch
    with pytest.raises(InputError, match="did you mean 'runlocal'"):
        load(name, "runlocl")


@pytest.mark.parametrize("name", [*SWITCHES, *ONE_OF])
def test_the_command_in_the_docstring_is_valid(name):
    from gencompositor_jax.cli import parse

    doc = (ROOT / "configs" / f"{name}.py").read_text().split('"""')[1].replace("\\\n", " ")
    lines = [line.strip() for line in doc.splitlines() if line.strip().startswith("gencompositor ")]
    assert lines
    for line in lines:
        args = parse(shlex.split(line)[1:])
        load_config(str(ROOT / args.config), args.overrides)
    for override in re.findall(r"--config\.(\S+=\S+?)[,;]?(?=\s)", doc):
        load(name, "", [override])


def commented_keys(text):
    """The keys of `base` by whether a comment explains them: {"data.path": True, ...}.

    The comment is directly above the key, or has the key's name and is in the same paragraph.
    """
    found = {}
    comments, above = "", ""
    for line in map(str.strip, text.splitlines()):
        if not line or line.startswith("# ----"):
            comments = line = ""
        elif line.startswith("#"):
            comments += line
        elif assigned := re.match(r"config\.([\w.]+) = ", line):
            key = assigned[1]
            named = re.search(rf"\b{key.rpartition('.')[2]}\b", comments)
            found[key] = above.startswith("#") or named is not None
        above = line
    return found


def test_every_key_has_a_comment():
    text = (ROOT / "configs" / "common.py").read_text()
    commented = commented_keys(text[text.index("def base") : text.index("return config")])
    assert not [key for key in flatten(base()) if not commented[key]]


def test_a_key_without_a_comment_is_found():
    text = "# Steps.\nconfig.steps = 1\nconfig.size = 2\n\n# path: a folder.\nconfig.a = 1\nconfig.b.path = 2"
    assert commented_keys(text) == {"steps": True, "size": False, "a": True, "b.path": True}


def test_the_large_config_is_the_recipe_of_paper_and_release():
    paper, release = load("gencompositor_6b"), load("gencompositor_6b", "release")
    recipe = {
        "optimizer.learning_rate": 2e-5,
        "optimizer.b1": 0.9,
        "optimizer.b2": 0.95,
        "optimizer.weight_decay": 1e-4,
        "optimizer.clip": 1.0,
        "optimizer.warmup": 1000,
        "batch_size": 8,
        "compute_dtype": "bfloat16",
        "remat": "blocks",
        "data.removal": 0.2,
        "data.mask_shapes": 0.3,
        "loss.mask_weight": 5.0,
        "loss.timestep_bias": 1.0,
        "arch": "released",
    }
    for config in (paper, release):
        assert {key: flatten(config)[key] for key in recipe} == recipe
    assert (paper.trainable, paper.data.gamma) == (".*", (0.4, 1.9))
    assert (release.trainable, release.data.gamma) == ("^backbone/", (0.3, 1.9))


@pytest.mark.parametrize("arg", ["runlocal", "release,lora,runlocal"])
def test_the_local_trial_of_the_large_config_is_small_and_keeps_the_recipe(arg):
    trial, full = load("gencompositor_6b", arg), load("gencompositor_6b", arg.removesuffix("runlocal"))
    arch, tiny = arch_lib.preset(trial.arch, trial.arch_changes.to_dict()), arch_lib.tiny()
    assert arch.backbone.width < tiny.backbone.width
    assert arch.backbone.num_layers < tiny.backbone.num_layers
    assert trial.steps <= 20
    assert trial.batch_size % 8 == 0  # launch/local.sh 2 4 shards it over eight devices
    assert (trial.data.source, trial.data.workers, trial.init) == ("procedural", 0, "")
    same = ["optimizer.learning_rate", "loss.mask_weight", "trainable", "data.gamma", "data.removal", "remat"]
    assert all(flatten(trial)[key] == flatten(full)[key] for key in same)
    assert (trial.lora.rank > 0) == ("lora" in arg)


def test_switches():
    given = switches(" lora, runlocal", "lora", "runlocal", "release")
    assert (given.lora, given.runlocal, given.release) == (True, True, False)
    assert not switches("", "lora").lora
    with pytest.raises(ValueError, match="known are 'lora'"):
        switches("zzz", "lora")


def test_configs_are_independent_of_each_other():
    first = base()
    first.steps = 1
    first.data.path = "elsewhere"
    assert (base().steps, base().data.path) != (1, "elsewhere")
    assert base().data.path == ""
