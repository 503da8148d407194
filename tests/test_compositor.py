import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from gencompositor_jax import checkpoints, sharding
from gencompositor_jax.arch import Inflation, ModelArch, VAEArch
from gencompositor_jax.compositor import Compositor
from gencompositor_jax.controls.conditions import Conditions
from gencompositor_jax.controls.element.element import Element
from gencompositor_jax.controls.geometry.trajectory import from_points
from gencompositor_jax.controls.media.video import Video
from gencompositor_jax.controls.sampling import SamplingOptions
from gencompositor_jax.controls.shot import ElementLayer, element_shot
from gencompositor_jax.controls.stage import make_stage
from gencompositor_jax.diffusion import sampler
from gencompositor_jax.errors import InputError
from gencompositor_jax.inference import compiling, loading, pipeline, rendering
from gencompositor_jax.inference.pipeline import generate, part_length
from gencompositor_jax.model import int8
from gencompositor_jax.perf.plan import long_sampling, workloads

SMALL_VAE = VAEArch(block_widths=(4, 4, 4), layers_per_block=1, norm_groups=2, latent_channels=4)
TRAJECTORY = [(20.0, 30.0), (45.0, 34.0), (70.0, 30.0)]


def scenery(frames: int = 5, height: int = 64, width: int = 96, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (frames, height, width, 3), dtype=np.uint8)


def disc(frames: int = 5, side: int = 24, colour: tuple[int, int, int] = (200, 40, 90)) -> np.ndarray:
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    rgba = np.zeros((frames, side, side, 4), np.uint8)
    rgba[..., :3] = colour
    rgba[..., 3] = np.where(x**2 + y**2 < (side / 2) ** 2, 255, 0)
    return rgba


@pytest.fixture(scope="module")
def compositor(small_model):
    return Compositor(small_model, "small")


def test_same_seed_same_frames_and_one_program_per_shape(compositor):
    program: Any = pipeline.advance
    program.clear_cache()
    first = compositor.compose(scenery(), disc(), TRAJECTORY, steps=4, seed=7)
    again = compositor.compose(scenery(), disc(), TRAJECTORY, steps=4, seed=7)
    # Another seed, element and size of the background: the model's shapes stay, so nothing is compiled.
    other = compositor.compose(
        scenery(height=48, width=120, seed=1), disc(side=30), TRAJECTORY, steps=4, seed=8
    )
    assert program._cache_size() == 1
    np.testing.assert_array_equal(first.frames, again.frames)
    assert other.frames.shape == (5, 48, 120, 3)
    different = compositor.compose(scenery(), disc(), TRAJECTORY, steps=4, seed=8)
    assert (first.raw != different.raw).any()
    # Fewer frames are held up to this shape, or to a smaller one.
    compositor.compose(scenery(3), disc(3), TRAJECTORY, steps=4, frames=3)
    assert program._cache_size() == 1
    compositor.compose(scenery(1), disc(1), TRAJECTORY, steps=4, frames=1)
    assert program._cache_size() == 2


def test_lengths_of_the_foreground_come_in_steps(compositor):
    """Elements of about one size share a program; one that fills the frame has the exact pass."""
    program: Any = pipeline.advance
    program.clear_cache()
    how: Any = {"steps": 4, "seed": 7, "framing": "whole"}
    exact = compositor.compose(scenery(), disc(side=24), TRAJECTORY, **how)
    assert exact.settings["fast"] is None and program._cache_size() == 1
    small = compositor.compose(scenery(), disc(side=24), TRAJECTORY, fast="drop-blank", **how)
    again = compositor.compose(scenery(), disc(side=20), TRAJECTORY, fast="drop-blank", **how)
    assert small.settings["fast"] == "drop-blank" and program._cache_size() == 2
    assert (small.raw != exact.raw).any() and (small.raw != again.raw).any()
    block = np.full((5, 64, 96, 4), 200, np.uint8)
    large = compositor.compose(scenery(), block, [(48.0, 32.0)], fast="drop-blank", **how)
    assert program._cache_size() == 2
    np.testing.assert_array_equal(large.raw, compositor.compose(scenery(), block, [(48.0, 32.0)], **how).raw)


def test_steps_are_skipped_where_asked(compositor):
    how: Any = {"steps": 10, "seed": 7}
    exact = compositor.compose(scenery(), disc(), TRAJECTORY, **how)
    heard: list[tuple[int, int]] = []
    skipped = compositor.compose(
        scenery(), disc(), TRAJECTORY, fast="cache:3", progress=lambda *now: heard.append(now), **how
    )
    assert skipped.settings["fast"] == "cache:3" and heard[-1] == (10, 10)
    difference = np.abs(skipped.raw.astype(int) - exact.raw)
    assert 0 < difference.max() < 64
    # With every other step this seldom, the answer is another one.
    seldom = compositor.compose(scenery(), disc(), TRAJECTORY, fast="cache:9", **how)
    assert (seldom.raw != skipped.raw).any()


def test_weights_in_8_bits(compositor, small_checkpoint):
    rounded = Compositor.load(small_checkpoint, weights="int8")
    exact = compositor.compose(scenery(), disc(), TRAJECTORY, steps=4)
    result = rounded.compose(scenery(), disc(), TRAJECTORY, steps=4)
    assert result.settings["weights"] == "int8" and exact.settings["weights"] is None
    # Weights as small as these change the answer by less than a grey level.
    assert int8.is_quantised(rounded.model.arrays) and np.abs(result.raw.astype(int) - exact.raw).max() <= 1
    with pytest.raises(InputError, match="weights"):
        Compositor.load(small_checkpoint, weights="int4")  # type: ignore[arg-type]


def no_memory(*_: Any, **__: Any) -> Any:
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes.")


def test_a_decoder_without_memory_costs_no_sampling(compositor, tmp_path, monkeypatch):
    file, how = tmp_path / "out.latents.npz", {"steps": 4, "seed": 3}

    def compose(**changes: Any) -> Any:
        return compositor.compose(scenery(), disc(), TRAJECTORY, **how | changes)

    exact = compose()
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "decode", no_memory)
        with pytest.raises(InputError, match=r"too little memory to decode.*tiles.*out\.latents\.npz keeps"):
            compose(latents=file)
        with pytest.raises(InputError, match="too little memory to decode"):
            compose()
    assert file.exists()
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "_sample", lambda *_: pytest.fail("sampled again"))
        again = compose(latents=file)
        np.testing.assert_array_equal(again.frames, exact.frames)
        assert "sample" not in again.seconds and "decode" in again.seconds
    for change in ({"seed": 4}, {"steps": 5}, {"solver": "ddim"}, {"fast": "cache:2"}, {"scale": 0.9}):
        before = file.read_bytes()
        other = compose(latents=file, **change)
        assert "sample" in other.seconds and file.read_bytes() != before
        np.testing.assert_array_equal(other.frames, compose(**change).frames)


def test_outside_the_mask_every_pixel_is_the_input(compositor):
    result = compositor.compose(scenery(), disc(), TRAJECTORY, steps=4)
    outside = ~result.mask
    np.testing.assert_array_equal(result.frames[outside], result.background[outside])
    assert (result.frames[result.mask] != result.background[result.mask]).any()
    # The disc's place on the trajectory is generated in every frame; most of the frame is not.
    assert all(result.mask[t, 28:36, x - 3 : x + 3].all() for t, x in enumerate((20, 32, 45, 58, 70)))
    assert 0.05 < result.mask.mean() < 0.5


def test_without_paste_back_the_model_speaks(compositor):
    result = compositor.compose(scenery(), disc(), TRAJECTORY, steps=4, paste_back=False)
    np.testing.assert_array_equal(result.frames, result.raw)
    assert result.frames.shape[1:3] == (32, 48) == result.mask.shape[1:]


def test_progress_reaches_the_end_in_order(compositor):
    heard: list[tuple[int, int]] = []
    compositor.compose(scenery(), disc(), TRAJECTORY, steps=10, progress=lambda *now: heard.append(now))
    assert heard == [(done, 10) for done in range(1, 11)]


@pytest.mark.parametrize("steps", [1, 4, 7, 10, 20, 36, 50, 97, 1000])
def test_parts_are_equal_and_many(steps):
    length = part_length(steps)
    assert steps % length == 0
    calls = steps // length
    # The longest part that leaves ten calls: no longer divisor does.
    assert length == 1 or calls >= 10
    assert not any(steps % d == 0 and steps // d >= 10 for d in range(length + 1, steps + 1))


def test_sampling_in_parts_is_the_whole_scan():
    plan = sampler.coefficients(dataclasses.replace(ModelArch().diffusion, prediction="x0"), 12, "dpm")
    key = jax.random.key(3)
    start = jax.random.normal(key, (1, 4, 5))

    def predict(x, t):
        return jax.numpy.tanh(x + t[:, None, None] / 1000)

    def noise(i):
        return sampler.step_noise(key, i, start.shape)

    whole = jax.jit(lambda x: sampler.sample(predict, x, plan, noise))(start)
    advance: Any = jax.jit(lambda state, first, part: sampler.advance(predict, state, first, part, noise))
    state = sampler.initial_state(start)
    for first in range(0, 12, 3):
        part = sampler.Coefficients(
            *(c[first : first + 3].astype(c.dtype if c.dtype == np.int32 else np.float32) for c in plan)
        )
        state = advance(state, first, part)
    np.testing.assert_array_equal(state.x, whole)
    assert advance._cache_size() == 1


def test_latents_of_the_step_before_make_room(compositor):
    """A part of the sampler is given its state for good: there are never two of them."""
    arch, states = compositor.arch, []
    pixels = (arch.frames, arch.height, arch.width)
    nothing = Conditions(*(np.zeros((1, *pixels, channels), np.float32) for channels in (1, 3, 3)))

    def run(program: Any, *args: Any, **static: Any) -> Any:
        states.extend(x for arg in args if isinstance(arg, sampler.SolverState) for x in jax.tree.leaves(arg))
        return program(*args, **static)

    generate(compositor.model, nothing, [0], SamplingOptions(steps=4), run=run)
    assert len(states) == 2 * 4 and all(state.is_deleted() for state in states)


def test_layers_go_on_top_of_each_other(compositor, monkeypatch):
    """The second layer's pass sees the first one's result, and the mask covers both."""
    seen = []
    colours = iter([(255, 0, 0), (0, 0, 255)])

    def paint(model, conditions, *_, **__):
        seen.append(conditions)
        return np.broadcast_to(np.array(next(colours), np.uint8), (1, 5, 32, 48, 3))

    monkeypatch.setattr(rendering, "generate", paint)
    clip = Video(np.full((5, 32, 48, 3), 100, np.uint8), 8.0, "grey")
    arch = compositor.arch
    element = Element(disc(side=12), "disc")
    layers = [ElementLayer(element, from_points([(x, 16)])) for x in (12, 36)]
    stage = make_stage(clip, layers, arch, "whole")
    result = compositor.render(stage, SamplingOptions(feather=0.0))
    assert result.frames[0, 16, 12].tolist() == [255, 0, 0]
    assert result.frames[0, 16, 36].tolist() == [0, 0, 255]
    assert result.mask[0, 16, 12] and result.mask[0, 16, 36] and not result.mask[0, 16, 24]
    grey = 100 / 127.5 - 1
    np.testing.assert_allclose(seen[0].masked_background[0, 0, 16, 12], -1)  # the hole
    np.testing.assert_allclose(seen[1].masked_background[0, 0, 16, 12], [1, -1, -1])  # the first layer's red
    np.testing.assert_allclose(seen[1].masked_background[0, 0, 0, 0], grey, atol=1e-6)


def test_removal_shows_white_and_fills_the_mask(compositor):
    mask = np.zeros((5, 64, 96), bool)
    mask[:, 20:40, 30:60] = True
    result = compositor.remove(scenery(), mask, steps=4)
    assert (result.foreground == 255).all()
    assert result.mask[mask].all()
    np.testing.assert_array_equal(result.frames[~result.mask], result.background[~result.mask])


def test_a_small_element_gets_a_window_and_a_large_one_the_whole(compositor):
    arch = dataclasses.replace(compositor.arch, inflation=Inflation(opening=0, kernel=3, sigma=1.0, tau=0.5))
    background = scenery(height=320, width=480)
    small_disc = ElementLayer(Element(disc(side=24), "small"), from_points([(100, 100)]))
    large_disc = ElementLayer(Element(disc(side=320), "large"), from_points([(240, 160)]))
    small, large = (element_shot(layer, background, arch, "auto") for layer in (small_disc, large_disc))
    assert small.window.size == (48, 72) and large.window.size == (320, 480)
    assert small.target_mask.sum() > 20 * (24 * 32 / 320) ** 2  # many times what the whole view would give it
    assert element_shot(small_disc, background, arch, "whole").window.size == (320, 480)


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"background": np.zeros((5, 64, 96, 4), np.uint8)}, "background"),
        ({"background": scenery(3), "frames": 5}, "frames"),
        ({"background": scenery().astype(np.float32)}, "uint8"),
        ({"foreground": disc()[..., :3]}, "RGBA"),
        ({"foreground": np.zeros((5, 8, 8, 4), np.uint8)}, "no element"),
        ({"foreground": disc(3), "frames": 5}, "3 frames"),
        ({"trajectory": []}, "trajectory"),
        ({"trajectory": [(np.nan, 3.0)]}, "finite"),
        ({"trajectory": [(500.0, 300.0)]}, "outside"),
        ({"scale": -1.0}, "scale"),
        ({"scale": float("nan")}, "scale"),
        ({"frames": 0}, "frames=0"),
        ({"frames": 6}, "6 are needed"),
        ({"steps": 0}, "steps"),
        ({"seed": -1}, "seed"),
        ({"solver": "euler"}, "solver"),
        ({"feather": float("nan")}, "feather"),
        ({"fast": "cache:1"}, "cache:N"),
        ({"fast": "cache:2", "steps": 2}, "none to skip"),
    ],
)
def test_bad_input_is_refused_before_anything_is_generated(compositor, monkeypatch, change, names):
    monkeypatch.setattr(rendering, "generate", lambda *_, **__: pytest.fail("generated"))
    wanted = {"background": scenery(), "foreground": disc(), "trajectory": TRAJECTORY} | change
    with pytest.raises(InputError, match=names):
        compositor.compose(
            wanted.pop("background"), wanted.pop("foreground"), wanted.pop("trajectory"), **wanted
        )


def test_compiled_programs_are_kept_where_the_environment_says(monkeypatch, tmp_path):
    updates: dict[str, Any] = {}
    monkeypatch.setattr(jax.config, "update", updates.__setitem__)
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("GENCOMPOSITOR_CACHE", "")
    compiling.keep_compiled_programs()
    assert updates == {}
    monkeypatch.setenv("GENCOMPOSITOR_CACHE", str(tmp_path))
    compiling.keep_compiled_programs()
    assert updates["jax_compilation_cache_dir"] == str(tmp_path)
    updates.clear()
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/elsewhere")
    compiling.keep_compiled_programs()
    assert updates == {}


@pytest.fixture
def with_prompts(small_model):
    """The small model with a prompt of its own, and with one that says nothing."""
    null = np.asarray(small_model.arrays["null_text"])
    rng = np.random.default_rng(1)
    sea = rng.standard_normal(null.shape).astype(null.dtype)
    arrays = jax.tree.map(lambda x: 6 * x, small_model.arrays)  # such small weights hardly listen to the text
    return Compositor(
        dataclasses.replace(small_model, arrays=arrays, prompts={"sea": sea, "nothing": 6 * null})
    )


def test_a_prompt_leads_and_the_empty_one_costs_nothing(with_prompts, monkeypatch):
    def raw(**how):
        return with_prompts.compose(scenery(), disc(), TRAJECTORY, steps=2, **how).raw.astype(int)

    alone, sea = raw(), raw(prompt="sea", guidance=100.0)
    assert np.abs(alone - sea).max() > 2
    # A prompt equal to the empty one gives guidance nothing to go by, whatever its scale.
    np.testing.assert_allclose(raw(prompt="nothing", guidance=3.0), alone, atol=1)
    # Scale 1 is the prompt alone, scale 0 the empty prompt alone.
    np.testing.assert_allclose(raw(prompt="sea", guidance=0.0), alone, atol=1)
    assert np.abs(raw(prompt="sea", guidance=1.0) - sea).max() > 2
    monkeypatch.setattr(
        "gencompositor_jax.diffusion.sampler.guided", lambda *_: pytest.fail("computed twice")
    )
    np.testing.assert_array_equal(raw(guidance=9.0), alone)
    raw(prompt="sea", guidance=1.0)


def test_unknown_prompts_are_named(with_prompts):
    with pytest.raises(
        InputError, match=r"prompt 'sky': not stored in the checkpoint \(it has nothing, sea\)"
    ):
        with_prompts.compose(scenery(), disc(), TRAJECTORY, prompt="sky")
    with pytest.raises(InputError, match="guidance"):
        with_prompts.compose(scenery(), disc(), TRAJECTORY, prompt="sea", guidance=float("nan"))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"background": None}, "background: NoneType where a path"),
        ({"background": [1, 2]}, "background: list where a path"),
        ({"background": ""}, "background: an empty text where a path"),
        ({"background": np.zeros((0, 64, 96, 3), np.uint8)}, "background: .* holds no frames"),
        ({"foreground": 3}, "foreground: int where a path"),
        ({"trajectory": None}, "trajectory: NoneType where points"),
        ({"scale": [1.0, None]}, "scale: list where a number"),
        ({"scale": True}, "scale: bool where a number"),
        ({"rotation": {}}, "rotation: dict where a number"),
        ({"frames": 2.5}, "frames: float where an integer"),
        ({"in_frame": "a"}, "in_frame: str where an integer"),
        ({"fps": []}, "fps: list where a number"),
        ({"key": 3}, "key: int where a text"),
        ({"mask": 3}, "mask: int where a path"),
    ],
    ids=lambda each: next(iter(each)) if isinstance(each, dict) else "",
)
def test_arguments_of_a_wrong_kind_are_named(compositor, wrong, says):
    given = {"background": scenery(), "foreground": disc(), "trajectory": TRAJECTORY} | wrong
    with pytest.raises(InputError, match=says):
        compositor.compose(**given)


def test_a_folder_and_a_mesh_of_a_wrong_kind_are_named(small_checkpoint):
    for mesh, says in ((3, "mesh: int where sizes by axis"), ({"data": "a"}, "mesh.data: str where")):
        with pytest.raises(InputError, match=says):
            Compositor.load(small_checkpoint, mesh=mesh)
    with pytest.raises(InputError, match="folder: int where a path"):
        Compositor.load(3)
    with pytest.raises(InputError, match="folder: an empty text where a path"):
        Compositor.load("")
    with pytest.raises(InputError, match="mask: NoneType where a path"):
        Compositor.load(small_checkpoint).remove(scenery(), None)


@pytest.fixture
def all_devices():
    with jax.default_device(None):
        yield


@pytest.fixture(scope="module")
def four_heads(small_model, tmp_path_factory):
    """The folder of the small model with heads that meshes divide."""
    arch = small_model.arch
    stacks = {
        name: dataclasses.replace(getattr(arch, name), num_heads=4, head_dim=16)
        for name in ("backbone", "branch")
    }
    arch = dataclasses.replace(arch, **stacks)
    rng = np.random.default_rng(0)
    arrays = jax.tree.map(
        lambda leaf: (0.1 * rng.standard_normal(leaf.shape)).astype(leaf.dtype),
        checkpoints.array_shapes(arch),
    )
    folder = tmp_path_factory.mktemp("heads") / "model"
    checkpoints.save(folder, checkpoints.Model(arch, arrays))
    return folder


@pytest.fixture(scope="module")
def with_vae(four_heads, tmp_path_factory):
    """The same with a small VAE."""
    arch = dataclasses.replace(checkpoints.read_metadata(four_heads).arch, codec=SMALL_VAE, frames=9)
    rng = np.random.default_rng(0)
    arrays = jax.tree.map(
        lambda leaf: (0.1 * rng.standard_normal(leaf.shape)).astype(leaf.dtype),
        checkpoints.array_shapes(arch),
    )
    folder = tmp_path_factory.mktemp("vae") / "model"
    checkpoints.save(folder, checkpoints.Model(arch, arrays))
    return folder


def latents_of(compositor: Compositor, path: Any, **options: Any) -> np.ndarray:
    """What was sampled, before it is rounded to pixels."""
    compositor.compose(scenery(), disc(), TRAJECTORY, latents=path, **options)
    return np.load(path)["latents_0"]


@pytest.mark.parametrize(
    "sizes",
    [
        {"tensor": 4, "data": 2},
        pytest.param({"context": 4, "data": 2}, marks=pytest.mark.slow),
        pytest.param({"fsdp": 8}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_on_a_mesh_it_is_the_same_and_what_plan_compiles(
    all_devices, four_heads, sizes, tmp_path, monkeypatch
):
    """The programs that `gencompositor plan` compiles are those of a composite, word for word."""
    ran: dict[str, str] = {}

    def recorded(program: Any, *args: Any, **static: Any) -> Any:
        if program.__name__ != "start":
            text = program.lower(*args, **static).as_text()
            assert ran.setdefault(program.__name__, text) == text  # compiled once
        return program(*args, **static)

    monkeypatch.setattr("gencompositor_jax.compositor.directly", recorded)
    latents = []
    for one in ({"data": 1}, sizes):
        ran.clear()
        compositor = Compositor.load(four_heads, mesh=one)
        latents.append(latents_of(compositor, tmp_path / f"{len(latents)}.npz"))
        rows = sharding.axis_size(compositor.mesh, sharding.ROWS)
        planned = workloads.of_sampling(compositor.arch, compositor.mesh, rows, np.float32)
        assert [program.lower().as_text() for program in planned] == list(ran.values())
    assert compositor.mesh.size == 8
    kernel = compositor.model.arrays["backbone"]["params"]["blocks"]["attention"]["query"]["kernel"]
    assert kernel.is_fully_replicated == ("context" in sizes)
    np.testing.assert_allclose(latents[1], latents[0], atol=1e-5)


@pytest.mark.parametrize(
    "sizes",
    [{"data": 1}, pytest.param({"tensor": 2, "data": 2, "context": 2}, marks=pytest.mark.slow)],
    ids=str,
)
def test_a_long_clip_runs_what_plan_compiles(all_devices, with_vae, sizes, monkeypatch):
    """Word for word, and nothing else but the noise."""
    ran: dict[tuple[str, str], None] = {}

    def recorded(program: Any, *args: Any, **static: Any) -> Any:
        ran[program.__name__, program.lower(*args, **static).as_text()] = None
        return program(*args, **static)

    monkeypatch.setattr("gencompositor_jax.compositor.directly", recorded)
    compositor = Compositor.load(with_vae, mesh=sizes)
    composite = compositor.compose(scenery(21), disc(21), TRAJECTORY, steps=2)
    np.asarray(composite.frames)
    planned = long_sampling.programs(compositor.arch, compositor.mesh, 21, np.float32)
    texts = [program.lower().as_text() for program in planned]
    assert [text for name, text in ran if name not in ("start", "block_noise")] == texts


@pytest.mark.slow
def test_kernels_in_8_bits_are_sharded_too(all_devices, four_heads, tmp_path):
    expected = latents_of(
        Compositor.load(four_heads, weights="int8", mesh={"data": 1}), tmp_path / "one.npz", steps=2
    )
    many = Compositor.load(four_heads, weights="int8", mesh={"tensor": 4})
    kernel = many.model.arrays["backbone"]["params"]["blocks"]["attention"]["query"]["kernel"]
    assert not kernel.values.is_fully_replicated and many.weights == "int8"
    np.testing.assert_allclose(latents_of(many, tmp_path / "many.npz", steps=2), expected, atol=1e-4)


def test_a_mesh_that_does_not_fit_is_refused_before_weights_are_read(all_devices, four_heads, monkeypatch):
    monkeypatch.setattr(loading, "load_sharded", lambda *_, **__: pytest.fail("read"))
    with pytest.raises(InputError, match="tensor 8 does not divide the network's 4 heads"):
        Compositor.load(four_heads, mesh={"tensor": 8})
