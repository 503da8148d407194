"""The VAE against recordings of the released implementation, with its weights."""

import dataclasses
import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gencompositor_jax.arch import VAEArch
from gencompositor_jax.codec import vae, vae_layers, vae_tiling
from gencompositor_jax.errors import InputError
from tests.parity.released import vae_arch, vae_params
from tests.recordings import explain

pytestmark = pytest.mark.parity
TOLERANCE = 1e-4  # of whole passes; single layers are compared with STRICT
STRICT = 1e-5


def tiled_arch(info: dict[str, Any]) -> VAEArch:
    tiling = info["tiling"]
    tile = tiling["tile_sample_min_height"], tiling["tile_sample_min_width"]
    overlap = tiling["tile_overlap_factor_height"], tiling["tile_overlap_factor_width"]
    return dataclasses.replace(vae_arch(info["config"], tile), tile_overlap=overlap)


@pytest.fixture(scope="module")
def params():
    return jax.tree.map(jnp.asarray, vae_params(vae_arch(explain("weights_vae")["config"])))


def ours(array: np.ndarray) -> jax.Array:
    """[B, C, T, H, W] -> [B, T, H, W, C]."""
    return jnp.asarray(np.moveaxis(array, 1, -1))


def assert_close(result: jax.Array, recorded: np.ndarray, tolerance: float) -> None:
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(np.asarray(result), np.moveaxis(recorded, 1, -1), rtol=0, atol=tolerance)


def test_encode(golden, params):
    case = golden("vae_plain")
    arch = vae_arch(case.info["config"])
    names = [key.removesuffix("/x") for key in case.arrays if re.fullmatch(r"enc\d+/x", key)]
    assert names
    for name in names:
        moments = vae.encode_moments(params, arch, ours(case.arrays[f"{name}/x"]))
        assert_close(moments, case.arrays[f"{name}/moments"], TOLERANCE)
        mean, std = vae.posterior(moments)
        assert_close(mean, case.arrays[f"{name}/mean"], TOLERANCE)
        assert_close(2 * jnp.log(std), case.arrays[f"{name}/logvar"], TOLERANCE)


def test_decode(golden, params):
    case = golden("vae_plain")
    names = [key.removesuffix("/z") for key in case.arrays if re.fullmatch(r"dec\d+/z", key)]
    assert names
    for name in names:
        video = vae.decode(params, vae_arch(case.info["config"]), ours(case.arrays[f"{name}/z"]))
        assert_close(video, case.arrays[f"{name}/y"], TOLERANCE)


def test_tiled_encode(golden, params):
    case = golden("vae_tiled")
    moments = vae.encode_moments(params, tiled_arch(case.info), ours(case.arrays["x"]))
    assert_close(moments, case.arrays["moments"], TOLERANCE)


@pytest.mark.slow
def test_tiled_decode(golden, params):
    case = golden("vae_tiled")
    video = vae.decode(params, tiled_arch(case.info), ours(case.arrays["z"]))
    (key,) = (key for key in case.arrays if key.startswith("y_frames_"))
    frames = [int(i) for i in key.removeprefix("y_frames_").split("_")]
    assert_close(video[:, jnp.asarray(frames)], case.arrays[key], TOLERANCE)


def test_tile_plans_truncate_as_recorded(golden):
    info = golden("vae_tiled").info
    plans = [(tiled_arch(info), info["derived"])]
    for key, derived in info.items():
        size = re.fullmatch(r"derived_at_full_size_(\d+)x(\d+)", key)
        if size:  # a tile is half of it
            tile = int(size[1]) // 2, int(size[2]) // 2
            plans.append((dataclasses.replace(tiled_arch(info), tile=tile), derived))
    assert len(plans) > 1
    for arch, derived in plans:
        encode, decode = vae_tiling.tile_plans(arch)

        def pair(name: str, derived: dict[str, int] = derived) -> tuple[int, int]:
            return derived[f"{name}_h"], derived[f"{name}_w"]

        assert (encode.stride, encode.blend, encode.keep) == (
            pair("sample_stride"),
            pair("encode_blend"),
            pair("encode_keep"),
        )
        assert (decode.stride, decode.blend, decode.keep) == (
            pair("latent_stride"),
            pair("decode_blend"),
            pair("decode_keep"),
        )


def test_frame_counts(golden):
    """The recorded frame counts, except that a single latent frame decodes to a single frame."""
    info = golden("vae_plain").info
    arch = vae_arch(info["config"])
    params = jax.eval_shape(functools.partial(vae.init, arch=arch), jax.random.key(0))
    side = arch.space_factor
    for what, result in info["frame_count_behaviour"].items():
        verb, count = what.split()[0], int(what.split()[1])
        if verb == "decode":
            z = jax.ShapeDtypeStruct((1, count, 1, 1, arch.latent_channels), jnp.float32)
            frames = jax.eval_shape(functools.partial(vae.decode, arch=arch), params, z=z).shape[1]
            assert frames == (1 if count == 1 else result["frames"]), what
            continue
        video = jax.ShapeDtypeStruct((1, count, side, side, 3), jnp.float32)
        encode = functools.partial(jax.eval_shape, functools.partial(vae.encode_moments, arch=arch), params)
        if isinstance(result, str):
            with pytest.raises(InputError, match=f"{count} frames"):
                encode(video=video)
        else:
            assert encode(video=video).shape[1] == result["latent_frames"], what


@pytest.mark.parametrize("size", ["unit", "tiny"])
def test_group_norm(golden, params, size):
    case, info = golden("submodules"), golden("weights_vae").info
    x = ours(case.arrays[f"{size}/vae_in"])
    at = params["encoder"]["down_0"]["res_0"]["norm1"]
    norm = functools.partial(
        vae_layers.group_norm, x, at["scale"], at["bias"], info["config"]["norm_num_groups"]
    )
    eps = case.info["eps"]["vae_group_norm"]
    assert_close(norm(eps), case.arrays[f"{size}/vae_groupnorm"], STRICT)
    if size == "tiny":  # the case that depends on eps
        assert np.abs(norm(10 * eps) - norm(eps)).max() > 0.1


@pytest.mark.parametrize("size", ["unit", "tiny"])
def test_decoder_norm(golden, params, size):
    case, config = golden("submodules"), golden("weights_vae").info["config"]
    norm = vae_layers.ConditionedNorm(
        config["norm_num_groups"], case.info["eps"]["vae_group_norm"], jnp.float32
    )
    x, z = ours(case.arrays[f"{size}/vae_dec_norm_in"]), ours(case.arrays[f"{size}/vae_dec_norm_z"])
    result = norm.apply({"params": params["decoder"]["norm_out"]}, x, z)
    assert isinstance(result, jax.Array)
    assert_close(result, case.arrays[f"{size}/vae_dec_norm_out"], STRICT)


def test_architecture_states_the_recorded_eps(golden):
    assert VAEArch().norm_eps == golden("submodules").info["eps"]["vae_group_norm"]
