"""configs/ablations.py: every ablation at every size is one small change of the size's base."""

import jax
import pytest

from gencompositor_jax import arch as arch_lib
from gencompositor_jax import checkpoints, sharding
from gencompositor_jax.configs.ablations import SIZES, VARIANTS
from gencompositor_jax.errors import InputError
from gencompositor_jax.perf import flops
from gencompositor_jax.training import state as state_lib
from gencompositor_jax.training.config import flatten, load_config


def load(arg):
    return load_config(f"configs/ablations.py:{arg}")


def arch_of(config):
    return arch_lib.preset(config.arch, config.arch_changes.to_dict())


def as_values(config):
    """A config's values by their dotted names, with the whole architecture instead of its changes."""
    values = {k: v for k, v in flatten(config).items() if not k.startswith("arch_changes")}
    stack = [("arch_changes", arch_lib.to_json(arch_of(config)))]
    while stack:
        name, value = stack.pop()
        if isinstance(value, dict):
            stack += [(f"{name}.{key}", inner) for key, inner in value.items()]
        else:
            values[name] = value
    return values


@pytest.mark.parametrize("size", SIZES)
def test_an_ablation_changes_what_it_says_and_nothing_else(size):
    base = as_values(load(f"size={size}"))
    for name, changes in VARIANTS.items():
        own = as_values(load(f"{name},size={size}"))
        assert own == base | changes, name


@pytest.mark.parametrize("size", SIZES)
def test_the_fields_of_each_ablation_go_together(size):
    for name in VARIANTS:
        arch_of(load(f"{name},size={size}"))


def test_noise_prediction_needs_a_last_signal():
    with pytest.raises(InputError, match="zero_terminal_snr=False"):
        arch_lib.preset("tiny", {"diffusion": {"prediction": "noise"}})


def test_released_weights_predict_velocity_and_small_ones_x0():
    for size, name in (("released", "v"), ("released", "erope_released"), ("sweep", "x0"), ("tiny", "x0")):
        assert as_values(load(f"{name},size={size}")) == as_values(load(f"full,size={size}")), (size, name)


@pytest.mark.parametrize(
    "name",
    ["no_branch", "cross_attention", *(pytest.param(n, marks=pytest.mark.slow) for n in ("channel_concat",))],
)
def test_the_state_at_full_size(name):
    """As shapes: parameters, moments, shardings; and the work of a step."""
    config = load(f"{name},size=released")
    arch, mesh = arch_of(config), sharding.make_mesh({"fsdp": 8})
    state, _ = state_lib.shapes(config, arch, state_lib.make_optimizer(config), mesh)
    assert set(state.params) == set(arch.stacks)
    count = sum(x.size for x in jax.tree.leaves(state.params))
    full = 5_570_679_360 + 301_568_576
    width, layers = 3072, 42
    extra = {
        "no_branch": -301_568_576,
        # Four projections with biases and four norms, two of a token's width and two of a head's.
        "cross_attention": layers * (4 * width * (width + 1) + 4 * width + 4 * 64),
        # 64 = 2 x 2 x 16 more inputs of the video's embedding, whose foreground has none of its own.
        "channel_concat": -width,
    }
    assert count == full + extra[name]
    sharded = [x for x in jax.tree.leaves(state.params) if not x.sharding.is_fully_replicated]
    assert sum(x.size for x in sharded) > 0.97 * count
    assert flops.forward(arch) < flops.forward(arch_lib.released())


@pytest.mark.parametrize(
    ("arg", "message"),
    [
        ("no_brnch", "did you mean 'no_branch'"),
        ("full,v", "full, v: pass one of them"),
        ("size=tiny,size=linear", "pass one of them"),
        ("zzz", "known are full"),
    ],
)
def test_other_arguments_are_refused(arg, message):
    with pytest.raises(InputError, match=message):
        load(arg)


def test_shapes_of_a_checkpoint_follow_the_variant():
    for name in ("full", "cross_attention", "channel_concat", "no_branch"):
        arch = arch_of(load(f"{name},runlocal"))
        assert set(checkpoints.array_shapes(arch)) == {*arch.stacks, "codec", "null_text"}
