"""The parts of an architecture: transformers, codecs, diffusion, mask inflation."""

import dataclasses
from typing import Annotated, Literal

from gencompositor_jax.fields import Flag, Fraction, Number, Whole, checked, length, within

Layout = Literal["released", "height", "width", "time", "shared", "trajectory"]
# How the backbone receives the foreground: as tokens of the joint sequence (the paper's fusion), as tokens
# that the video's attend to in every block, or as channels of the video's tokens.
Fusion = Literal["self_attention", "cross_attention", "channels"]
# Where the background branch's residuals are added: outside the mask (the paper's masked token injection), to
# all video tokens, or nowhere: there is no branch.
Injection = Literal["masked", "everywhere", "none"]
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
