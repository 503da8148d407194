"""U^2-Net-p: a small network that finds the salient object of a picture.

Qin et al., U^2-Net: Going deeper with nested U-structure for salient object detection, Pattern Recognition
106 (2020), arXiv 2005.09007; the small variant, in which every block has 16 inner and 64 outer channels.
Batch normalisation is folded into the convolutions of the stored weights.
"""

import functools
import hashlib
import io
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from gencompositor_jax.errors import InputError

SIDE = 320  # pixels of the network's square input
INNER, OUTER = 16, 64  # channels
# Levels of the blocks: those of the encoder from fine to coarse. The last two are dilated instead of pooled.
LEVELS = (7, 6, 5, 4, 4, 4)
_DILATED = (4, 5)
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet

WEIGHTS = Path(__file__).parents[3] / "weights" / "u2netp" / "u2netp.npz"
SHA256 = "ad1d8cc1be14c87c37cd3882b44040bc1b2fc44c437185e4d651b31f6e9f82e4"


class Block(nn.Module):
    """A residual U-block (RSU-L, or RSU-4F if it is dilated)."""

    levels: int
    dilated: bool

    @nn.compact
    def __call__(self, x: Float[Array, "B h w c"]) -> Float[Array, "B h w 64"]:
        """The block's features, of its input's size."""

        def conv(name: str, x: jax.Array, channels: int = INNER, dilation: int = 1) -> jax.Array:
            return nn.relu(nn.Conv(channels, (3, 3), kernel_dilation=dilation, name=name)(x))

        outer = conv("enter", x, OUTER)
        down = [conv("down1", outer)]
        for level in range(2, self.levels):
            below = down[-1] if self.dilated else pooled(down[-1])
            down.append(conv(f"down{level}", below, dilation=2 ** (level - 1) if self.dilated else 1))
        bottom = 2 ** (self.levels - 1) if self.dilated else 2
        up = conv(f"down{self.levels}", down[-1], dilation=bottom)
        for level in range(self.levels - 1, 0, -1):
            beside = down[level - 1]
            both = jnp.concatenate([resized(up, beside), beside], axis=-1)
            channels = OUTER if level == 1 else INNER
            up = conv(f"up{level}", both, channels, 2 ** (level - 1) if self.dilated else 1)
        return up + outer


class U2NetP(nn.Module):
    """Blocks in a U: six down, five up, and a map of each of the six sizes, which are fused."""

    @nn.compact
    def __call__(self, pictures: Float[Array, "B h w 3"]) -> Float[Array, "B h w"]:
        """The logit of each pixel; pictures: RGB, 0 to 1, of `SIDE` x `SIDE` pixels."""
        x = (pictures - jnp.array(_MEAN)) / jnp.array(_STD)
        down: list[jax.Array] = []
        for i, levels in enumerate(LEVELS):
            below = pooled(down[-1]) if down else x
            down.append(Block(levels, i in _DILATED, name=f"encoder{i + 1}")(below))
        features = [down[-1]]
        for i in range(len(LEVELS) - 2, -1, -1):
            both = jnp.concatenate([resized(features[0], down[i]), down[i]], axis=-1)
            features.insert(0, Block(LEVELS[i], i in _DILATED, name=f"decoder{i + 1}")(both))
        maps = [nn.Conv(1, (3, 3), name=f"side{i + 1}")(x) for i, x in enumerate(features)]
        fused = jnp.concatenate([resized(m, maps[0]) for m in maps], axis=-1)
        return nn.Conv(1, (1, 1), name="fuse")(fused)[..., 0]


def pooled(x: Float[Array, "B h w c"]) -> Float[Array, "B h2 w2 c"]:
    """The largest of each 2 x 2 pixels."""
    return nn.max_pool(x, (2, 2), (2, 2))


def resized(x: Float[Array, "B h w c"], like: Float[Array, "B h2 w2 d"]) -> Float[Array, "B h2 w2 c"]:
    """Enlarged linearly to another's size."""
    return jax.image.resize(x, (*like.shape[:3], x.shape[-1]), "linear")


@functools.cache
def weights() -> dict[str, Any]:
    """The packaged parameters. Raises InputError where the file is another one."""
    data = WEIGHTS.read_bytes()
    if (found := hashlib.sha256(data).hexdigest()) != SHA256:
        raise InputError(f"{WEIGHTS}: SHA-256 {found[:12]}..., expected {SHA256[:12]}...: install it again")
    params: dict[str, Any] = {}
    with np.load(io.BytesIO(data)) as arrays:
        for path, values in arrays.items():
            *modules, leaf = path.split("/")
            node = params
            for module in modules:
                node = node.setdefault(module, {})
            node[leaf] = values.astype(np.float32)
    return params


@jax.jit
def _probabilities(params: Any, pictures: jax.Array) -> jax.Array:
    logits: Any = U2NetP().apply({"params": params}, pictures.astype(jnp.float32) / 255)
    return jax.nn.sigmoid(logits)


def saliency(pictures: np.ndarray) -> np.ndarray:
    """The probability that a pixel is of the salient object: uint8 RGB [B, SIDE, SIDE, 3] -> float32
    [B, SIDE, SIDE].
    """
    return np.asarray(_probabilities(weights(), pictures))
