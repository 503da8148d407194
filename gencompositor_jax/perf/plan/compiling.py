"""Plans: the programs of sampling or training compiled for a target, what each needs, and whether it fits."""

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import ml_collections

from gencompositor_jax import arch as arch_lib
from gencompositor_jax import sharding
from gencompositor_jax.controls.stage import arch_for
from gencompositor_jax.errors import InputError
from gencompositor_jax.inference import meshes
from gencompositor_jax.perf.plan import collectives, hlo, long_sampling, memory, roofline, work, workloads
from gencompositor_jax.perf.plan.collectives import Traffic
from gencompositor_jax.perf.plan.memory import Memory
from gencompositor_jax.perf.plan.roofline import Estimate
from gencompositor_jax.perf.plan.topology import Target
from gencompositor_jax.perf.plan.workloads import Program

Mode = Literal["sample", "train"]

# Turns off most of XLA's search for faster code, which takes minutes for the codec's convolutions. The memory
# is the same within a few per cent, mostly higher.
QUICKLY: Any = (
    {"exec_time_optimization_effort": -1.0}  # JAX 0.10
    if hasattr(jax.config, "jax_exec_time_optimization_effort")
    else {"optimization_level": "O0"}
)


@dataclasses.dataclass(frozen=True)
class Compiled:
    """One program on one target. If it doesn't fit the memory, XLA gives up and only `needed` is known."""

    name: str
    seconds: float  # to lower and compile
    memory: Memory | None
    needed: int  # bytes per device
    flops: float | None = (
        None  # per device and run (a solver call: per step), of the products that are executed
    )
    useful_flops: float | None = None  # of the network as `perf.flops` counts it, divided by the devices
    bytes: int | None = None  # read from and written to main memory, per device and run
    traffic: Mapping[str, Traffic] = dataclasses.field(default_factory=dict)
    estimate: Estimate | None = None
    unknown: tuple[str, ...] = ()  # loops and kernels that couldn't be counted
    runs: int = 1  # in a composite


@dataclasses.dataclass(frozen=True)
class Plan:
    """All programs of a mode on a target."""

    mode: Mode
    target: Target
    mesh: Mapping[str, int]
    batch: int
    clip: tuple[int, int, int]  # frames, height, width
    programs: Sequence[Compiled]
    steps: int  # of a sampling pass

    @property
    def step(self) -> Compiled:
        """The program that runs once per step."""
        return next(program for program in self.programs if program.useful_flops)

    @property
    def needed(self) -> int:
        """Bytes per device at the peak."""
        return max(program.needed for program in self.programs)

    @property
    def largest(self) -> Compiled:
        """The program with that peak."""
        return max(self.programs, key=lambda program: program.needed)

    @property
    def fits(self) -> bool | None:
        """None if the device's memory isn't known."""
        chip = self.target.chip
        return None if chip.memory is None else self.needed <= chip.memory


def make_plan(
    config: ml_collections.ConfigDict,
    mode: Mode,
    target: Target,
    batch: int | None = None,
    mesh: Mapping[str, int] | None = None,
    thorough: bool = False,
    frames: int | None = None,
) -> Plan:
    """Compile the programs of a mode for a target.

    batch: clips at once; None is the config's for training, 1 for sampling. mesh: sizes of its axes; None is
    the config's for training, `meshes.default_sizes` for sampling. thorough: see `compiled`. frames: of the
    clip that is sampled, in windows if it is longer than the model's. Raises InputError if these don't fit
    each other, before anything is compiled.
    """
    arch = arch_lib.preset(config.arch, config.arch_changes.to_dict())
    if frames is not None:
        arch = arch_for(arch, frames)
    clip = frames or arch.frames, arch.height, arch.width
    if mode == "train":
        batch = config.batch_size if batch is None else batch
        sizes = config.mesh if mesh is None else mesh
        own = config.copy_and_resolve_references()
        own.batch_size = batch
        devices = sharding.make_mesh(sizes, target.devices)
        found = workloads.of_training(own, devices)
    else:
        batch = 1 if batch is None else batch
        sizes = meshes.default_sizes(arch, batch, len(target.devices)) if mesh is None else mesh
        devices = sharding.make_mesh(sizes, target.devices)
        dtype = jnp.float32 if target.devices[0].platform == "cpu" else jnp.bfloat16
        if clip[0] <= arch.frames:
            found = workloads.of_sampling(arch, devices, batch, dtype)
        elif batch > 1:
            raise InputError(
                f"--batch {batch}: clips of more than {arch.frames} frames are sampled one by one"
            )
        else:
            found = long_sampling.programs(arch, devices, clip[0], dtype)
    done = [compiled(program, target, thorough) for program in found]
    return Plan(mode, target, dict(devices.shape), batch, clip, done, arch.diffusion.steps)


def compiled(program: Program, target: Target, thorough: bool = False) -> Compiled:
    """Lower, compile and analyse a program.

    thorough: with all of XLA's optimisations, as it will run. Otherwise with fewer, which is much faster on
    TPUs.
    """
    devices = len(target.devices)
    useful = program.useful_flops / devices or None
    began = time.perf_counter()
    lowered = program.lower()
    options = QUICKLY if not thorough and target.devices[0].platform == "tpu" else None
    try:
        executable = lowered.compile(compiler_options=options)
    except Exception as error:  # jaxlib's types differ by version; the message decides
        if (needed := memory.needed_by(error)) is None:
            raise
        seconds = time.perf_counter() - began
        waiting = sum(memory.bytes_per_device(tree) for tree in program.waiting.values())
        needed += waiting
        return Compiled(program.name, seconds, None, needed, useful_flops=useful, runs=program.runs)
    seconds = time.perf_counter() - began
    module = hlo.parse(executable.as_text() or "")
    operations = [
        dataclasses.replace(one, times=one.times / program.steps) for one in work.operations(module)
    ]
    traffic = {
        kind: Traffic(math.ceil(sent.calls / program.steps), math.ceil(sent.bytes / program.steps))
        for kind, sent in collectives.traffic(module, devices).items()
    }
    found = memory.of(program, executable)
    return Compiled(
        program.name,
        seconds,
        found,
        found.total,
        sum(one.times * one.flops for one in operations),
        useful,
        round(sum(one.times * one.bytes for one in operations)),
        traffic,
        roofline.estimate(operations, traffic, target.chip),
        (*hlo.unknown_loops(module), *work.unknown_kernels(module)),
        program.runs,
    )
