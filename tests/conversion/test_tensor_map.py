"""Rules of the VAE: complete at full size, and reversible."""

import functools

import jax
import numpy as np

from gencompositor_jax.arch import VAEArch
from gencompositor_jax.codec import vae
from gencompositor_jax.conversion.tensor_map import vae_rules
from tests.parity.released import to_variables

TINY = VAEArch(block_widths=(4, 8, 8), layers_per_block=1, latent_channels=2, norm_groups=2)


def torch_shapes(arch: VAEArch) -> dict[str, tuple[int, ...]]:
    shapes = jax.eval_shape(functools.partial(vae.init, arch=arch), jax.random.key(0))
    leaves = {
        "/".join(p.key for p in path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(shapes)
    }
    # A view of one number has any shape and takes no memory.
    return {
        rule.key: rule.to_torch(np.broadcast_to(np.float32(0), leaves[rule.path].shape)).shape
        for rule in vae_rules(arch)
    }


def test_released_keys_and_shapes():
    shapes = torch_shapes(VAEArch())
    assert len(shapes) == 436
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 215_583_907
    for key, shape in {
        "encoder.conv_in.conv.weight": (128, 3, 3, 3, 3),
        "encoder.down_blocks.1.resnets.0.conv_shortcut.weight": (256, 128, 1, 1, 1),
        "encoder.down_blocks.2.downsamplers.0.conv.weight": (256, 256, 3, 3),
        "encoder.down_blocks.3.resnets.2.norm1.weight": (512,),
        "encoder.mid_block.resnets.1.conv2.conv.bias": (512,),
        "encoder.norm_out.bias": (512,),
        "encoder.conv_out.conv.weight": (32, 512, 3, 3, 3),
        "decoder.mid_block.resnets.0.norm2.conv_b.conv.weight": (512, 16, 1, 1, 1),
        "decoder.up_blocks.1.resnets.0.conv1.conv.weight": (256, 512, 3, 3, 3),
        "decoder.up_blocks.3.resnets.3.norm1.norm_layer.weight": (128,),
        "decoder.up_blocks.0.upsamplers.0.conv.bias": (512,),
        "decoder.norm_out.conv_y.conv.bias": (128,),
        "decoder.conv_out.conv.weight": (3, 128, 3, 3, 3),
    }.items():
        assert shapes[key] == shape, key


def test_round_trip_is_bit_exact():
    rng = np.random.default_rng(0)
    state = {key: rng.normal(size=shape).astype(np.float32) for key, shape in torch_shapes(TINY).items()}
    params = to_variables(vae_rules(TINY), state, layers=0)
    expected = jax.eval_shape(functools.partial(vae.init, arch=TINY), jax.random.key(0))
    assert jax.tree.map(np.shape, params) == jax.tree.map(lambda leaf: leaf.shape, expected)
    leaves = {
        "/".join(p.key for p in path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    for rule in vae_rules(TINY):
        np.testing.assert_array_equal(rule.to_torch(leaves[rule.path]), state[rule.key])


def test_kernel_axes_keep_their_meaning():
    """[out, in, time, row, column] becomes [time, row, column, in, out]."""
    rule = next(rule for rule in vae_rules(TINY) if rule.key == "encoder.conv_in.conv.weight")
    tensor = np.arange(4 * 3 * 27).reshape(4, 3, 3, 3, 3)
    assert rule.to_jax(tensor)[0, 1, 2, 1, 3] == tensor[3, 1, 0, 1, 2]
