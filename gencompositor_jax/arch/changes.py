"""What a user may change of a checkpoint's architecture."""

import dataclasses
import math
from typing import TypedDict

from gencompositor_jax.arch.model import ModelArch
from gencompositor_jax.arch.parts import LatentMaskRule, Tiles, VAEArch
from gencompositor_jax.errors import InputError


def with_tiles(arch: ModelArch, tiles: Tiles | None) -> ModelArch:
    """The architecture with the VAE on the release's tiles (half the height and width) or on whole frames.

    None changes nothing. Tiles change the result: group norm normalises one tile at a time. Raises InputError
    for a codec without tiles.
    """
    if tiles is None:
        return arch
    if not isinstance(arch.codec, VAEArch):
        raise InputError(f"tiles={tiles}: the {arch.codec.kind} codec of this checkpoint has no tiles")
    tile = (arch.height // 2, arch.width // 2) if tiles == "released" else None
    return dataclasses.replace(arch, codec=dataclasses.replace(arch.codec, tile=tile))


class Changes(TypedDict, total=False):
    """Fields that may differ from the checkpoint's; None or absent keeps the checkpoint's."""

    tiles: Tiles | None  # of the VAE
    sigma: float | None  # of mask inflation, in model pixels
    tau: float | None  # threshold of mask inflation, above 0 and at most 1
    latent_mask: LatentMaskRule | None


def changed(arch: ModelArch, changes: Changes) -> ModelArch:
    """The architecture with a user's changes; see `with_tiles` and `Inflation`.

    A new sigma also sets the window's size, with the release's proportion: 2.5 sigma to each side.
    """
    arch = with_tiles(arch, changes.get("tiles"))
    inflation = arch.inflation
    sigma, tau, rule = changes.get("sigma"), changes.get("tau"), changes.get("latent_mask")
    if sigma is not None:
        inflation = dataclasses.replace(inflation, sigma=sigma, kernel=2 * math.ceil(2.5 * sigma) + 1)
    if tau is not None:
        inflation = dataclasses.replace(inflation, tau=tau)
    return dataclasses.replace(arch, inflation=inflation, latent_mask=rule or arch.latent_mask)
