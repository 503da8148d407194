"""Architectures: every width, depth, layout and constant that a set of weights depends on.

A `ModelArch` is stored with each checkpoint, so nothing about a model is guessed. Configs select a preset and
may replace fields; no other file has defaults for these numbers.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypedDict

from pydantic import Field

from gencompositor_jax import fields
from gencompositor_jax.errors import InputError
from gencompositor_jax.fields import Flag, Fraction, Number, Positive, Whole, checked, length, within

Layout = Literal["released", "height", "width", "time", "shared", "trajectory"]
LatentMaskRule = Literal["released", "union"]
Prediction = Literal["velocity", "noise", "x0"]
Solver = Literal["dpm", "ddim", "consistency"]
Weights = Literal["int8"]  # the format of the networks' kernels, if it isn't the dtype they compute in
Tiles = Literal["released", "none"]

# No network of this kind is larger, and no number within these bounds alone asks for too much memory.
Blocks = Annotated[Whole, within(1, 1000)]
Width = Annotated[Whole, within(1, 2**16)]
Factor = Annotated[Whole, within(1, 64)]
Side = Annotated[Whole, within(1, 2**14)]  # pixels, rows or columns
Beta = Annotated[Number, within(above=0, high=1)]
MAX_PIXELS = 2**36  # of one clip: 300 frames of 4K have 2.5e9
MAX_POSITIONS = 2**34  # numbers of the tables of added positions


@checked
@dataclasses.dataclass(frozen=True)
class TransformerArch:
    """One transformer: the backbone or the background branch.

    The defaults are the released backbone's (CogVideoX-5B-I2V's sizes).
    """

    num_layers: Blocks = 42
    num_heads: Annotated[Whole, within(1, 1024)] = 48
    # A multiple of 16, so that the rotary parts for t, h, w (1/4, 3/8, 3/8 of it) have even sizes.
    head_dim: Annotated[Whole, within(16, 1024)] = 64
    # Width of the feed-forward network, in widths of a token.
    mlp_ratio: Factor = 4
    time_embed_dim: Width = 512
    text_dim: Width = 4096
    text_tokens: Width = 226
    patch: Factor = 2

    @property
    def width(self) -> int:
        """Size of one token."""
        return self.num_heads * self.head_dim


@checked
@dataclasses.dataclass(frozen=True)
class PatchCodecArch:
    """The lossless codec of tiny models: a latent pixel is a block of space_factor x space_factor pixels over
    time_factor frames.
    """

    space_factor: Factor = 4
    time_factor: Factor = 4
    kind: Literal["patch"] = "patch"

    @property
    def latent_channels(self) -> int:
        """One per pixel and colour of the block."""
        return 3 * self.time_factor * self.space_factor**2


@checked
@dataclasses.dataclass(frozen=True)
class LinearCodecArch:
    """A linear code of the patch codec's blocks: their first principal components, each with variance 1.

    The basis is stored with the weights.
    """

    space_factor: Factor = 8
    time_factor: Factor = 4
    latent_channels: Width = 128
    kind: Literal["linear"] = "linear"

    @property
    def block_size(self) -> int:
        """Numbers in a block of space_factor x space_factor pixels over time_factor frames."""
        return 3 * self.time_factor * self.space_factor**2


@checked
@dataclasses.dataclass(frozen=True)
class VAEArch:
    """The causal 3-D variational autoencoder; the defaults are CogVideoX-5B-I2V's."""

    block_widths: Annotated[tuple[Width, ...], length(1, 7)] = (128, 256, 256, 512)
    layers_per_block: Annotated[Whole, within(1, 16)] = 3
    latent_channels: Width = 16
    norm_groups: Width = 32
    norm_eps: Annotated[Number, within(above=0, high=1)] = 1e-6
    time_factor: Factor = 4
    scaling_factor: Annotated[Number, within(above=0, high=1e6)] = 0.7
    # Frames per chunk of the encoder, latent frames per chunk of the decoder. They change the result: group
    # norm normalises one chunk at a time.
    frames_per_chunk: Width = 8
    latents_per_chunk: Width = 2
    # Height and width of a spatial tile in pixels; None for no tiles. The release's scripts use (240, 360).
    tile: tuple[Side, Side] | None = None
    # Overlap of neighbouring tiles along height and width, as a fraction of the tile.
    tile_overlap: tuple[Fraction, Fraction] = (1 / 6, 1 / 5)
    kind: Literal["vae"] = "vae"

    @property
    def space_factor(self) -> int:
        """Pixels per latent pixel, along height and along width."""
        return 2 ** (len(self.block_widths) - 1)


@checked
@dataclasses.dataclass(frozen=True)
class DiffusionArch:
    """Noise schedule, prediction type, and how the checkpoint is meant to be sampled; the defaults are the
    release's.
    """

    train_steps: Annotated[Whole, within(1, 10**6)] = 1000
    beta_start: Beta = 0.00085
    beta_end: Beta = 0.012
    snr_shift: Annotated[Number, within(above=0, high=1e6)] = 1.0
    zero_terminal_snr: Flag = True
    prediction: Prediction = "velocity"
    # Sampling steps, where the user asks for no other number; few for a distilled student.
    steps: Annotated[Whole, within(1, 1000)] = 20
    solver: Solver = "dpm"  # likewise


@checked
@dataclasses.dataclass(frozen=True)
class Inflation:
    """Mask inflation, a Gaussian filter and a threshold; the defaults are the release's."""

    threshold: Annotated[Whole, within(0, 255)] = 128  # grey values above it are inside
    # Side of the morphological opening's element in pixels; 0 for no opening.
    opening: Annotated[Whole, within(0, 1000)] = 3
    min_area: Fraction = 1e-4  # connected components up to this fraction of the frame are removed
    kernel: Annotated[Whole, within(1, 1001)] = 51  # side of the Gaussian window in pixels, odd
    sigma: Annotated[Number, within(above=0, high=200)] = 10.0  # of the Gaussian, in pixels
    # Pixels with at least this response of the Gaussian, whose peak is 1, are inside.
    tau: Annotated[Number, within(above=0, high=1)] = 1 / 255


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
    layout: Layout = "released"
    # Rows and columns of tokens at the training size, into which rotary positions are fitted.
    base_grid: tuple[Side, Side] = (30, 45)
    # Divides rows and columns in the table of added positions.
    position_scale: Positive = 1.875
    latent_mask: LatentMaskRule = "released"
    inflation: Inflation = Inflation()

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
        condition, which is so with the layout `trajectory`; None with the others.
        """
        return self.cell if self.layout == "trajectory" else None

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
        for name, stack in (("backbone", self.backbone), ("branch", self.branch)):
            if stack.head_dim % 16:
                raise InputError(f"{name}.head_dim={stack.head_dim}: pass a multiple of 16")
            if (stack.width, stack.patch) != (self.backbone.width, self.backbone.patch):
                raise InputError(f"{name}: tokens must have the backbone's width and patch size")
        if not 1 <= self.branch.num_layers <= self.backbone.num_layers:
            raise InputError(
                f"branch.num_layers={self.branch.num_layers}: pass 1 to {self.backbone.num_layers}"
            )
        if isinstance(self.codec, LinearCodecArch):
            size = self.codec.block_size
            if not 1 <= self.codec.latent_channels <= size:
                raise InputError(f"codec.latent_channels={self.codec.latent_channels}: pass 1 to {size}")
        if not self.inflation.kernel % 2:
            raise InputError(f"inflation.kernel={self.inflation.kernel}: pass an odd number")
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


def released() -> ModelArch:
    """The released checkpoint: CogVideoX-5B-I2V's sizes at 49 frames of 480 x 720."""
    return ModelArch()


def tiny() -> ModelArch:
    """9 frames of 64 x 96 in tokens of 16 x 16 pixels, trainable on two CPU cores."""
    return _small_model(PatchCodecArch(space_factor=8), base_grid=(4, 6))


def small() -> ModelArch:
    """`tiny` with tokens of 8 x 8 pixels, four times as many: sharper results, trained on a GPU."""
    return _small_model(PatchCodecArch(space_factor=4), base_grid=(8, 12))


def linear() -> ModelArch:
    """The embedded model: `tiny` on the latents of a linear codec, 128 numbers per token of 8 x 8 pixels."""
    arch = _small_model(LinearCodecArch(), base_grid=(8, 12))
    backbone = dataclasses.replace(arch.backbone, num_layers=4, patch=1)
    branch = dataclasses.replace(backbone, num_layers=1)
    # The more steps, the more detail it invents: in 20 by the SDE solver its own frames are 0.8 dB further
    # from the truth than in 4 (benchmarks/results/distilled.json).
    diffusion = dataclasses.replace(arch.diffusion, steps=4, solver="ddim")
    return dataclasses.replace(
        arch, backbone=backbone, branch=branch, diffusion=diffusion, layout="trajectory"
    )


def _small_model(codec: PatchCodecArch | LinearCodecArch, base_grid: tuple[int, int]) -> ModelArch:
    stack = TransformerArch(
        num_layers=6, num_heads=4, head_dim=64, time_embed_dim=128, text_dim=16, text_tokens=1
    )
    return ModelArch(
        frames=9,
        height=64,
        width=96,
        backbone=stack,
        branch=dataclasses.replace(stack, num_layers=1),
        branch_heads=False,
        codec=codec,
        diffusion=DiffusionArch(prediction="x0"),
        layout="height",
        base_grid=base_grid,
        latent_mask="union",
        inflation=Inflation(opening=0, min_area=0.0, kernel=7, sigma=2.0, tau=0.1),
    )


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


PRESETS = {"tiny": tiny, "small": small, "linear": linear, "released": released}


def preset(name: str, changes: Mapping[str, Any] | None = None) -> ModelArch:
    """A preset by name, with fields replaced: {"frames": 17, "backbone": {"num_layers": 8}}.

    Raises InputError for an unknown preset or field, a value of another type, or contradicting fields.
    """
    if name not in PRESETS:
        raise InputError(f"arch={name}: pass one of {', '.join(PRESETS)}")
    return from_json(_replaced(to_json(PRESETS[name]()), changes or {}, "arch_changes"), "arch_changes")


def _replaced(fields: dict[str, Any], changes: Mapping[str, Any], where: str) -> dict[str, Any]:
    out = dict(fields)
    for name, value in changes.items():
        here = f"{where}.{name}"
        if name not in fields:
            raise InputError(f"{here}: unknown field; pass one of {', '.join(fields)}")
        old = fields[name]
        if isinstance(old, dict) and isinstance(value, Mapping):
            out[name] = _replaced(old, value, here)
        elif old is None or type(value) is type(old) or (isinstance(old, float) and isinstance(value, int)):
            out[name] = value
        else:
            raise InputError(f"{here}={value!r}: pass {type(old).__name__}, such as {old!r}")
    return out


def to_json(arch: ModelArch) -> dict[str, Any]:
    """Plain nested dict of the fields, for a checkpoint's metadata."""
    return dataclasses.asdict(arch)


# Fields of `DiffusionArch` that older checkpoints lack, and how those are sampled.
ADDED_LATER = {"steps": 20, "solver": "dpm"}


def from_json(value: Any, where: str = "arch") -> ModelArch:
    """Inverse of `to_json`; `where` begins the messages.

    Raises InputError for unknown or missing fields (with guessed ones, weights would give wrong results), for
    values of another type or out of their bounds, and for fields that contradict each other.
    """
    if isinstance(value, dict) and isinstance(value.get("diffusion"), dict):
        value = {**value, "diffusion": {**ADDED_LATER, **value["diffusion"]}}
    arch: ModelArch = fields.read(ModelArch, value, where)
    require_all(to_json(arch), value, where)
    try:
        arch.check()
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    return arch


def require_all(whole: Any, given: Any, where: str) -> None:
    """Raise InputError where `given` lacks a field of `whole`, or one of the objects in it does."""
    if not isinstance(whole, dict):
        return
    if missing := [name for name in whole if name not in given]:
        raise InputError(f"{where}: field {missing[0]!r} is missing; use the version that wrote it")
    for name, inner in whole.items():
        require_all(inner, given[name], f"{where}.{name}")
