"""Everything that a checkpoint's weights depend on, and which values fit each other."""

import dataclasses
import math
from typing import Annotated

from pydantic import Field

from gencompositor_jax.arch.parts import (
    MAX_PIXELS,
    MAX_POSITIONS,
    DiffusionArch,
    Fusion,
    Inflation,
    Injection,
    LatentMaskRule,
    Layout,
    LinearCodecArch,
    PatchCodecArch,
    Side,
    TransformerArch,
    VAEArch,
)
from gencompositor_jax.errors import InputError
from gencompositor_jax.fields import Flag, Positive, Whole, checked, within


@checked
@dataclasses.dataclass(frozen=True)
class ModelArch:
    """Everything that a checkpoint's weights depend on, and the size they were trained at."""

    frames: Annotated[Whole, within(1, 10**6)] = 49
    height: Side = 480
    width: Side = 720
    backbone: TransformerArch = TransformerArch()
    branch: TransformerArch = TransformerArch(num_layers=2)
    # The released branch has an input map and an output head that its forward pass never reads.
    branch_heads: Flag = True
    codec: Annotated[PatchCodecArch | LinearCodecArch | VAEArch, Field(discriminator="kind")] = VAEArch()
    diffusion: DiffusionArch = DiffusionArch()
    fusion: Fusion = "self_attention"
    injection: Injection = "masked"
    # Of the rotary positions of video and foreground tokens; without foreground tokens it has no effect.
    layout: Layout = "released"
    # Rows and columns of tokens at the training size, into which rotary positions are fitted.
    base_grid: tuple[Side, Side] = (30, 45)
    # Divides rows and columns in the table of added positions.
    position_scale: Positive = 1.875
    latent_mask: LatentMaskRule = "released"
    inflation: Inflation = Inflation()

    @property
    def stacks(self) -> dict[str, TransformerArch]:
        """The transformers by name; without injection there is no branch."""
        branch = {} if self.injection == "none" else {"branch": self.branch}
        return {"backbone": self.backbone, **branch}

    @property
    def latent_shape(self) -> tuple[int, int, int, int]:
        """(t, h, w, C) of one clip."""
        c = self.codec
        t = (self.frames - 1) // c.time_factor + 1
        return t, self.height // c.space_factor, self.width // c.space_factor, c.latent_channels

    @property
    def token_grid(self) -> tuple[int, int, int]:
        """(t, rows, columns) of the video's tokens; the foreground's grid is the same."""
        t, h, w, _ = self.latent_shape
        return t, h // self.backbone.patch, w // self.backbone.patch

    @property
    def cell(self) -> tuple[int, int]:
        """(frames, pixels along height and along width) of one token."""
        return self.codec.time_factor, self.codec.space_factor * self.backbone.patch

    @property
    def offset_cell(self) -> tuple[int, int] | None:
        """`cell` where the foreground's offsets from its place in the target are whole tokens and a
        condition, which is so for foreground tokens with the layout `trajectory`; None for others.
        """
        return self.cell if self.layout == "trajectory" and self.fusion != "channels" else None

    def check(self) -> None:
        """Raises InputError if the fields contradict each other."""
        t, h, w, _ = self.latent_shape
        _, cell = self.cell
        if (self.frames - 1) % self.codec.time_factor or self.frames < 1:
            raise InputError(
                f"frames={self.frames}: pass {self.codec.time_factor}k+1 frames, such as 9, 17 or 49"
            )
        if self.height % cell or self.width % cell:
            raise InputError(f"height={self.height}, width={self.width}: both must be multiples of {cell}")
        for name, stack in self.stacks.items():
            if stack.head_dim % 16:
                raise InputError(f"{name}.head_dim={stack.head_dim}: pass a multiple of 16")
            if (stack.width, stack.patch) != (self.backbone.width, self.backbone.patch):
                raise InputError(f"{name}: tokens must have the backbone's width and patch size")
        if "branch" in self.stacks and self.branch.num_layers > self.backbone.num_layers:
            raise InputError(
                f"branch.num_layers={self.branch.num_layers}: pass 1 to {self.backbone.num_layers}"
            )
        if isinstance(self.codec, LinearCodecArch):
            size = self.codec.block_size
            if not 1 <= self.codec.latent_channels <= size:
                raise InputError(f"codec.latent_channels={self.codec.latent_channels}: pass 1 to {size}")
        if not self.inflation.kernel % 2:
            raise InputError(f"inflation.kernel={self.inflation.kernel}: pass an odd number")
        if self.diffusion.prediction == "noise" and self.diffusion.zero_terminal_snr:
            raise InputError(
                "diffusion.prediction=noise: says nothing about the last timestep, which is all noise; pass "
                "diffusion.zero_terminal_snr=False, too"
            )
        pixels = self.frames * self.height * self.width
        positions = 2 * math.prod(self.token_grid) * self.backbone.width
        if pixels > MAX_PIXELS or positions > MAX_POSITIONS:
            raise InputError(
                f"frames={self.frames}, height={self.height}, width={self.width}: {pixels:.2g} pixels and "
                f"position tables of {positions:.2g} numbers are too many; pass smaller ones"
            )
        if t < 1 or h < 1 or w < 1:
            raise InputError(
                f"frames={self.frames}, height={self.height}, width={self.width}: too small for one latent"
            )
