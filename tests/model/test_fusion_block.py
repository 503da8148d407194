import jax
import jax.numpy as jnp
import numpy as np

from gencompositor_jax.model import erope
from gencompositor_jax.model.fusion_block import fusion_attention
from gencompositor_jax.model.joint_sequence import joint_sequence

GRID, TEXT, HEADS, SIZE = (2, 2, 3), 3, 2, 16
VIDEO = 12


def inputs(layout="height"):
    joint = joint_sequence(erope.fusion_tables(layout, GRID, GRID[1:], SIZE), TEXT)
    q, k, v = jax.random.normal(jax.random.key(0), (3, 2, joint.length, HEADS, SIZE))
    return joint, q, k, v


def rotation(theta):
    """[S, d, d] from the angles [S, d / 2]: equation 6 of the paper."""
    out = np.zeros((len(theta), SIZE, SIZE))
    for i in range(SIZE // 2):
        c, s = np.cos(theta[:, i]), np.sin(theta[:, i])
        out[:, 2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = np.array([[c, -s], [s, c]]).transpose(2, 0, 1)
    return out


def test_every_token_attends_to_all_tokens_by_the_equations():
    joint, q, k, v = inputs()
    r = rotation(np.arctan2(joint.sin, joint.cos).astype(np.float64))
    q64, k64, v64 = (np.asarray(x, np.float64) for x in (q, k, v))
    scores = np.einsum(
        "bihd,bjhd->bhij", np.einsum("sde,bshe->bshd", r, q64), np.einsum("sde,bshe->bshd", r, k64)
    )
    weights = np.exp(scores / np.sqrt(SIZE))
    weights /= weights.sum(axis=-1, keepdims=True)
    expected = np.einsum("bhij,bjhd->bihd", weights, v64)
    np.testing.assert_allclose(
        fusion_attention(q, k, v, joint.cos, joint.sin, joint.length), expected, atol=2e-6
    )


def test_video_and_foreground_tokens_of_the_same_cell_differ_in_their_positions():
    """With equal queries and keys in both streams, only the shift of ERoPE tells them apart."""
    same = jnp.ones((1, TEXT + 2 * VIDEO, HEADS, SIZE))
    marks = jnp.arange(TEXT + 2 * VIDEO, dtype=jnp.float32)[None, :, None, None] * same
    for layout, equal in (("shared", True), ("height", False)):
        joint, *_ = inputs(layout)
        out = fusion_attention(same, same, marks, joint.cos, joint.sin, joint.length)
        video, foreground = out[:, TEXT : TEXT + VIDEO], out[:, TEXT + VIDEO :]
        assert np.allclose(video, foreground, atol=1e-4) == equal
