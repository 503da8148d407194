import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gencompositor_jax.checkpoints import Model
from gencompositor_jax.compositor import Compositor
from gencompositor_jax.controls import shot as shots
from gencompositor_jax.controls.element.element import Element
from gencompositor_jax.controls.geometry.trajectory import from_points
from gencompositor_jax.controls.media.frames import Computed
from gencompositor_jax.controls.media.video import Footage
from gencompositor_jax.controls.sampling import SamplingOptions
from gencompositor_jax.controls.shot import ElementLayer, RemovalLayer
from gencompositor_jax.controls.stage import arch_for, make_stage
from gencompositor_jax.errors import InputError
from gencompositor_jax.inference import long_clips, long_rendering, state_file

LONG = 31  # not 4k+1; the small model has 5
OPTIONS = SamplingOptions(steps=1)


def scenery(frames: int = LONG, height: int = 64, width: int = 96) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (frames, height, width, 3), dtype=np.uint8)


def disc(frames: int = LONG, side: int = 24) -> np.ndarray:
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    rgba = np.zeros((frames, side, side, 4), np.uint8)
    rgba[..., :3] = (200, 40, 90)
    rgba[..., 3] = np.where(x**2 + y**2 < (side / 2) ** 2, 255, 0)
    return rgba


def recorded(frames: np.ndarray, asked: list[tuple[int, int]]) -> Computed:
    def make(first: int, stop: int) -> np.ndarray:
        asked.append((first, stop))
        return frames[first:stop]

    return Computed(frames.shape, make)


@pytest.fixture(scope="module")
def compositor(small_model) -> Compositor:
    return Compositor(small_model)


def layer(frames: int = LONG, x: float = 20.0) -> ElementLayer:
    return ElementLayer(Element(disc(frames), "disc"), from_points([(x, 32), (x + 40, 32)]))


def test_a_long_clip_is_composited_in_pieces(compositor):
    """Its background is read in order, a few frames at a time: to encode it, and for the result."""
    background, asked = scenery(), list[tuple[int, int]]()
    clip = Footage(recorded(background, asked), 8.0, "clip")
    stage = make_stage(clip, [layer()], arch_for(compositor.arch, LONG))
    assert stage.is_long and stage.arch.frames == 5 and asked == []
    heard: list[tuple[int, int]] = []
    composite = compositor.render(stage, OPTIONS, progress=lambda *at: heard.append(at))
    assert heard == [(done, 8) for done in range(1, 9)]  # eight windows of 2 latent frames over 9
    assert composite.settings["frames"] == LONG and composite.frames.shape == background.shape
    frames, mask = np.asarray(composite.frames), np.asarray(composite.mask)
    np.testing.assert_array_equal(frames[~mask], background[~mask])
    assert (frames[mask] != background[mask]).any() and 0.05 < mask.mean() < 0.5
    assert all(mask[t, 30:34, round(20 + 40 * t / 30)].all() for t in range(LONG))
    reads = [asked[i : i + 1][0] for i in range(len(asked))]
    assert max(stop - first for first, stop in reads) <= long_rendering.PIECE
    assert sum(stop - first for first, stop in reads) == 2 * LONG
    np.testing.assert_array_equal(composite.frames[7], frames[7])
    assert composite.raw.shape == (LONG, 32, 48, 3) == composite.foreground.shape
    assert 0 <= composite.transferred[0] <= 1


@pytest.mark.parametrize("detail", ["auto", "element", "model"])
def test_pieces_are_the_whole(compositor, monkeypatch, detail):
    """What is pasted back in pieces is what `put_back` makes of all frames."""
    background, arch = scenery(), arch_for(compositor.arch, LONG)
    stage = make_stage(Footage(background, 8.0, "clip"), [layer()], arch, "whole")
    shot = stage.shots[0]
    seen, paste = shots.shown(shot, background).astype(float), shot.paste(shot.view)
    flicker = (0.7 + 0.2 * np.sin(np.arange(LONG) / 3))[:, None, None, None]  # that smoothing along time sees
    lit = seen + paste[..., 3:] / 255 * (paste[..., :3] * flicker - seen)
    drawn = np.clip(lit, 0, 255).astype(np.uint8)

    def decoded(*_: Any) -> Any:
        yield from np.split(np.concatenate([drawn, drawn[-1:], drawn[-1:]]), [9, 17, 25])

    monkeypatch.setattr(long_clips, "sample_clip", lambda *_: np.zeros(1))
    monkeypatch.setattr(long_clips, "decode_clip", decoded)
    composite = compositor.render(stage, dataclasses.replace(OPTIONS, detail=detail))
    np.testing.assert_array_equal(np.asarray(composite.raw), drawn)
    inside = shots.inflated_mask(shot, arch)
    whole = shots.put_back(shot, background, drawn, inside, arch, OPTIONS.feather, detail)
    np.testing.assert_array_equal(np.asarray(composite.mask), whole.mask)
    assert np.abs(np.asarray(composite.frames).astype(int) - whole.frames).max() <= 1
    assert composite.transferred == pytest.approx([whole.transferred], abs=1e-6)


def test_layers_of_a_long_clip_are_over_each_other(compositor, monkeypatch):
    seen = []
    encode = long_clips.encode_clip

    def watched(model: Model, given: Any, *rest: Any) -> Any:
        parts = list(given)
        seen.append(np.concatenate([part.masked_background for part in parts]))
        return encode(model, iter(parts), *rest)

    colours = iter([(255, 0, 0), (0, 0, 255)])
    monkeypatch.setattr(long_clips, "encode_clip", watched)
    monkeypatch.setattr(long_clips, "sample_clip", lambda *_: np.zeros(1))
    monkeypatch.setattr(
        long_clips, "decode_clip", lambda *_: iter([np.full((33, 32, 48, 3), next(colours), np.uint8)])
    )
    grey = Footage(np.full((LONG, 32, 48, 3), 100, np.uint8), 8.0, "grey")
    layers = [ElementLayer(Element(disc(side=12), "disc"), from_points([(x, 16)])) for x in (12, 36)]
    stage = make_stage(grey, layers, arch_for(compositor.arch, LONG), "whole")
    options = dataclasses.replace(OPTIONS, detail="model", feather=0.0)
    result = compositor.render(stage, options)
    assert result.frames[20][16, 12].tolist() == [255, 0, 0]
    assert result.frames[20][16, 36].tolist() == [0, 0, 255]
    assert result.mask[20][16, 12] and result.mask[20][16, 36] and not result.mask[20][16, 24]
    np.testing.assert_allclose(seen[0][20, 16, 12], -1)  # the hole
    np.testing.assert_allclose(seen[1][20, 16, 12], [1, -1, -1])  # the first layer's red
    assert len(seen[1]) == 33  # held to whole latent frames


def test_latents_of_a_long_clip_are_kept_until_it_is_decoded(compositor, monkeypatch, tmp_path):
    monkeypatch.setattr(state_file, "EVERY_S", 0.0)
    file = tmp_path / "latents.npz"
    stage = make_stage(Footage(scenery(9), 8.0, "clip"), [layer(9)], arch_for(compositor.arch, 9))
    first = compositor.render(stage, OPTIONS, latents=file)
    monkeypatch.setattr(long_clips, "sample_clip", lambda *_: pytest.fail("sampled"))
    again = compositor.render(stage, OPTIONS, latents=file)
    np.testing.assert_array_equal(np.asarray(again.frames), np.asarray(first.frames))
    assert "sample" not in again.seconds
    monkeypatch.setattr(long_clips, "sample_clip", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        compositor.render(stage, dataclasses.replace(OPTIONS, seed=1), latents=file)
    assert [path.name for path in tmp_path.iterdir()] == ["latents.npz"]


@pytest.mark.parametrize("frames", [1, 3, 5, 6, 9])
def test_any_length(compositor, frames):
    """Shorter clips are held up to what the codec encodes, longer ones are sampled in windows."""
    background = scenery(frames)
    result = compositor.compose(background, disc(frames), [(20, 32), (60, 32)], frames=frames, steps=1)
    assert result.frames.shape == background.shape and result.raw.shape == (frames, 32, 48, 3)
    mask = np.asarray(result.mask)
    np.testing.assert_array_equal(np.asarray(result.frames)[~mask], background[~mask])


def test_a_long_removal(compositor):
    mask, asked = np.zeros((LONG, 64, 96), bool), list[tuple[int, int]]()
    mask[:, 20:40, 30:60] = True
    clip = Footage(scenery(), 8.0, "clip")
    stage = make_stage(clip, [RemovalLayer(recorded(mask, asked))], arch_for(compositor.arch, LONG))
    result = compositor.render(stage, OPTIONS)
    assert (result.foreground[3:5] == 255).all() and np.asarray(result.mask)[mask].all()
    assert result.transferred == (0.0,) and max(stop - first for first, stop in asked) <= 24


def test_an_element_that_never_shows_is_refused(compositor):
    stage = make_stage(Footage(scenery(), 8.0, "clip"), [layer()], arch_for(compositor.arch, LONG))
    with pytest.raises(InputError, match="outside"):
        make_stage(stage.background, [layer(x=500.0)], stage.arch)


def test_a_clip_whose_latents_fit_no_memory_is_refused(compositor):
    with pytest.raises(InputError, match=r"frames=1000000: its latents need .* GiB.*pass \d+ or less"):
        arch_for(dataclasses.replace(compositor.arch, height=480, width=720), 10**6)
    with pytest.raises(InputError, match="frames=0"):
        arch_for(compositor.arch, 0)


def test_without_paste_back_the_models_frames(compositor, tmp_path: Path):
    options = dataclasses.replace(OPTIONS, paste_back=False)
    stage = make_stage(
        Footage(scenery(9), 8.0, "clip"), [layer(9)] * 2, arch_for(compositor.arch, 9), paste_back=False
    )
    result = compositor.render(stage, options)
    np.testing.assert_array_equal(np.asarray(result.frames), np.asarray(result.raw))
    assert result.mask.shape == (9, 32, 48) and result.transferred == ()
