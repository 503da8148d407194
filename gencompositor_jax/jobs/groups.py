"""Jobs of one shape: those that the same model and the same compiled programs make."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from jax.sharding import Mesh

from gencompositor_jax import sharding
from gencompositor_jax.arch import Inflation, ModelArch
from gencompositor_jax.controls.scene import Scene
from gencompositor_jax.diffusion import approximations
from gencompositor_jax.inference import meshes
from gencompositor_jax.jobs.checking import Checker
from gencompositor_jax.jobs.manifest import Line

# Tokens per device in a call up to which more clips pay: a small network's clip leaves an accelerator idle.
# On a CPU one clip keeps all cores busy (benchmarks/batch_throughput.py).
TOKENS = 4096
MOST = 8  # clips per device in a call
CALLS = 4  # of a group, or one clip per device in a call: reading and writing overlap with other calls


@dataclasses.dataclass(frozen=True)
class Group:
    """Jobs of one shape, in the order of the manifest."""

    lines: tuple[Line, ...]
    arch: ModelArch
    mesh: Mesh
    size: int  # clips in a call

    @property
    def scene(self) -> Scene:
        """The first job's: in what the programs depend on, all are the same."""
        return scene_of(self.lines[0])

    @property
    def layers(self) -> int:
        """Layers of each scene, a removal included."""
        return self.scene.passes

    @property
    def model(self) -> object:
        """Groups of one model are equal in this."""
        return self.scene.checkpoint, self.scene.weights, self.mesh


def grouped(
    lines: Sequence[Line], checker: Checker, mesh: Mapping[str, int] | None, clips: int | None
) -> list[Group]:
    """The groups of some jobs, those of one model after another.

    mesh: None is `meshes.default_sizes` for as many clips at once as the devices allow. clips: in a call;
    None is `clips_per_call`. The calls of a group are of equal size, for one program. Raises InputError where
    the mesh doesn't fit a model.
    """
    found: dict[tuple[str, ...], list[Line]] = {}
    for line in lines:
        assert line.job is not None
        found.setdefault(_shape(line.job.scene, checker.arch(line.job.scene)), []).append(line)
    devices = len(meshes.local_devices())
    at_once = max(n for n in range(1, devices + 1) if devices % n == 0 and n <= max(1, len(lines)))
    groups = []
    for shape in sorted(found):
        members = tuple(found[shape])
        scene = scene_of(members[0])
        arch = checker.arch(scene)
        # With drop-blank the tokens that a call leaves out depend on all of its clips.
        alone = approximations.parse(scene.sampling.fast).drop_blank
        made = meshes.sampling_mesh(arch, mesh, 1 if alone else at_once)
        most = 1 if alone else clips or clips_per_call(arch, made, len(members))
        calls = -(-len(members) // most)
        groups.append(Group(members, arch, made, -(-len(members) // calls)))
    return groups


def clips_per_call(arch: ModelArch, mesh: Mesh, clips: int) -> int:
    """How many of so many clips to sample at once."""
    rows = sharding.axis_size(mesh, sharding.ROWS)
    if mesh.devices.flat[0].platform == "cpu":
        return rows
    tokens = arch.backbone.text_tokens + 2 * math.prod(arch.token_grid)
    return rows * max(1, min(MOST, TOKENS // tokens, clips // (CALLS * rows)))


def scene_of(line: Line) -> Scene:
    """The scene of a line that can be used."""
    assert line.job is not None
    return line.job.scene


def _shape(scene: Scene, arch: ModelArch) -> tuple[str, ...]:
    """What the model and its programs depend on, as texts; the model first. Masks come inflated."""
    options = scene.sampling.settled(arch.diffusion)
    options = dataclasses.replace(options, seed=0, paste_back=True, feather=0, detail="auto")
    arch = dataclasses.replace(arch, inflation=Inflation())
    return str(scene.checkpoint), str(scene.weights), str(arch), str(scene.passes), str(options)
