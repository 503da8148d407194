import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given, settings
from hypothesis import strategies as st

from gencompositor_jax import arch as arch_lib
from gencompositor_jax import checkpoints
from gencompositor_jax.errors import InputError
from gencompositor_jax.model.denoiser import Denoiser, LatentConditions
from gencompositor_jax.training import lora, partition

L, D, H, HEAD = 3, 12, 2, 16
PARAMS = {
    "backbone": {
        "blocks": {
            "attention": {
                **{
                    name: {"kernel": jnp.zeros((L, D, H, HEAD)), "bias": jnp.zeros((L, H, HEAD))}
                    for name in ("query", "key", "value")
                },
                "out": {"kernel": jnp.zeros((L, H, HEAD, D)), "bias": jnp.zeros((L, D))},
            },
            "feed_forward": {"up": {"kernel": jnp.zeros((L, D, 20))}},
        },
        "out": {"kernel": jnp.zeros((D, 6))},
    },
    "branch": {"residual": {"kernel": jnp.zeros((L, D, D))}},
}
KERNELS = [name for name in partition.flatten(PARAMS) if name.endswith("/kernel")]


def filled(tree, seed=0):
    """The same tree with normal random numbers."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape), leaf.dtype), tree)


def as_matrices(name, array, of="kernel"):
    """A kernel, or the a or b of its adapter, as [layers, rows, columns]; layers is 1 outside stacks."""
    layers, inputs, outputs = lora.axes(name, partition.flatten(PARAMS)[name].shape)
    rows = {"kernel": math.prod(inputs), "a": math.prod(inputs), "b": -1}[of]
    columns = {"kernel": math.prod(outputs), "a": -1, "b": math.prod(outputs)}[of]
    return np.asarray(array, np.float64).reshape(math.prod(layers), rows, columns)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_new_adapters_change_nothing(dtype):
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), filled(PARAMS))
    adapters = lora.init(jax.random.key(0), params, 4, "kernel")
    merged = lora.apply(params, adapters, alpha=8.0)
    assert jax.tree.structure(merged) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, merged, params)
    assert {leaf.dtype for leaf in jax.tree.leaves(merged)} == {jnp.dtype(dtype)}


@settings(max_examples=30)
@given(
    st.sampled_from(KERNELS),
    st.integers(1, 6),
    st.floats(0.5, 32),
    st.integers(0, 100),
)
def test_merged_kernels_are_w_plus_a_b(name, rank, alpha, seed):
    params = filled(PARAMS, seed)
    adapters = filled(lora.init(jax.random.key(0), params, rank, f"^{name}$"), seed + 1)
    merged = partition.flatten(lora.apply(params, adapters, alpha))
    before, factors = partition.flatten(params), partition.flatten(adapters)
    assert factors.keys() == {f"{name}/a", f"{name}/b"}
    for other in before.keys() - {name}:
        np.testing.assert_array_equal(merged[other], before[other])

    difference = as_matrices(name, merged[name]) - as_matrices(name, before[name])
    a, b = (as_matrices(name, factors[f"{name}/{factor}"], factor) for factor in "ab")
    np.testing.assert_allclose(difference, alpha / rank * (a @ b), atol=1e-4 * alpha)
    assert set(np.linalg.matrix_rank(difference, tol=1e-3)) == {rank}


def test_a_layer_computes_x_w_plus_x_a_b():
    """With Flax's own layers, which fix what are inputs and what are outputs."""
    rng = np.random.default_rng(0)
    adapters = filled(lora.init(jax.random.key(0), PARAMS, 4))
    params = filled(PARAMS, 1)
    merged, alpha = lora.apply(params, adapters, alpha=6.0), 6.0
    project = nn.DenseGeneral((H, HEAD))
    project_out = nn.DenseGeneral(D, axis=(-2, -1))
    for name in ("query", "key", "value", "out"):
        x = rng.standard_normal((5, H, HEAD) if name == "out" else (5, D)).astype(np.float32)
        dense = project_out if name == "out" else project
        for layer in range(L):
            before, after, adapter = (
                jax.tree.map(lambda leaf, i=layer: leaf[i], tree["backbone"]["blocks"]["attention"][name])
                for tree in (params, merged, adapters)
            )
            a, b = (np.asarray(adapter["kernel"][factor]) for factor in "ab")
            low_rank = np.tensordot(x, a, 2 if name == "out" else 1)
            expected = dense.apply({"params": before}, x) + alpha / 4 * np.tensordot(low_rank, b, 1)
            np.testing.assert_allclose(dense.apply({"params": after}, x), expected, atol=2e-4)


def test_only_adapters_have_gradients(small_model):
    arch, variables = small_model.arch, {k: small_model.arrays[k] for k in ("backbone", "branch")}
    params = {name: parts["params"] for name, parts in variables.items()}
    latents = jnp.ones((1, *arch.latent_shape))
    conditions = LatentConditions(latents, latents, latents[..., :1])

    @jax.jit
    def gradients(adapters):
        def loss(adapters):
            merged = lora.apply(params, adapters, alpha=2.0)
            weights = {n: {"params": merged[n], "buffers": variables[n]["buffers"]} for n in merged}
            out = Denoiser(arch)(weights, latents, jnp.array([500]), conditions, jnp.ones((1, 1, 16)))
            return jnp.square(out).mean()

        return jax.grad(loss)(adapters)

    new = lora.init(jax.random.key(0), params, 2)
    at_start = partition.flatten(gradients(new))
    assert len(at_start) == 8
    for name, gradient in at_start.items():
        if name.endswith("/b"):  # that of `a` is zero while `b` is
            assert np.abs(gradient).max() > 0, name
        else:
            assert np.abs(gradient).max() == 0, name
    moved = jax.tree.map(lambda leaf: leaf + 0.1, new)
    assert all(np.abs(gradient).max() > 0 for gradient in jax.tree.leaves(gradients(moved)))


def test_the_initial_values_of_adapters():
    """a is normal with a variance of 1 over the number of inputs, and depends on the kernel's path alone."""
    params = {
        "blocks": {"attention": {"out": {"kernel": jnp.zeros((2, 4, 100, 64))}}},
        "out": {"kernel": jnp.zeros((400, 64))},
    }
    both = lora.init(jax.random.key(1), params, 32, "kernel")
    one = lora.init(jax.random.key(1), params, 32, "^out")
    np.testing.assert_array_equal(one["out"]["kernel"]["a"], both["out"]["kernel"]["a"])
    a = both["blocks"]["attention"]["out"]["kernel"]["a"]
    assert float(a.std()) == pytest.approx(1 / math.sqrt(400), rel=0.02)
    assert float(a.mean()) == pytest.approx(0, abs=2e-3)
    assert not np.array_equal(a[0], a[1])
    assert not both["blocks"]["attention"]["out"]["kernel"]["b"].any()


def test_counts_of_the_released_architecture():
    """Default targets, rank 16: 42 layers of four kernels from 3072 to 3072."""
    shapes = jax.eval_shape(Denoiser(arch_lib.released()).init, jax.random.key(0))
    params = {name: parts["params"] for name, parts in shapes.items()}
    adapters = jax.eval_shape(lambda key: lora.init(key, params, 16), jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(adapters)) == 42 * 4 * 16 * (3072 + 3072)
    assert adapters["backbone"]["blocks"]["attention"]["out"]["kernel"]["a"].shape == (42, 48, 64, 16)
    merged = jax.eval_shape(lambda p, x: lora.apply(p, x, 16.0), params, adapters)
    assert jax.tree.structure(merged) == jax.tree.structure(params)
    assert all(jax.tree.leaves(jax.tree.map(lambda x, y: x.shape == y.shape, merged, params)))


def test_a_merged_model_is_an_ordinary_checkpoint(small_model, tmp_path):
    model = jax.tree.map(jnp.asarray, small_model.arrays)
    adapters = filled(lora.init(jax.random.key(0), {"backbone": model["backbone"]["params"]}, 2))
    merged = lora.apply({"backbone": model["backbone"]["params"]}, adapters, alpha=2.0)
    arrays = {**model, "backbone": {**model["backbone"], "params": merged["backbone"]}}
    checkpoints.save(tmp_path / "merged", checkpoints.Model(small_model.arch, arrays))
    loaded = checkpoints.load(tmp_path / "merged")
    attention = loaded.arrays["backbone"]["params"]["blocks"]["attention"]
    np.testing.assert_array_equal(
        attention["query"]["kernel"], merged["backbone"]["blocks"]["attention"]["query"]["kernel"]
    )


@pytest.mark.parametrize(
    ("rank", "targets", "message"),
    [
        (13, lora.TARGETS, "lora.rank=13: pass 1 to 12, the full rank of backbone/blocks/attention/"),
        (0, lora.TARGETS, "lora.rank=0: pass 1 to 12"),
        (4, "attn", "lora.targets='attn': matches none of 7 names, such as backbone/blocks/attention"),
        (4, "bias", "matches none"),
        (4, "(", "not a regular expression"),
    ],
)
def test_a_rank_or_targets_that_do_not_fit_are_refused(rank, targets, message):
    with pytest.raises(InputError, match=message.replace("(query", r"\(query")):
        lora.init(jax.random.key(0), PARAMS, rank, targets)


def test_a_kernel_of_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="no kernel of a known kind"):
        lora.axes("backbone/blocks/attention/out/kernel", (3, 12, 12))
