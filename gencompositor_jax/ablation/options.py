"""What `gencompositor ablate` is asked to do, and the configs of its runs."""

import dataclasses
import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any

import ml_collections

from gencompositor_jax import arch as arch_lib
from gencompositor_jax import fields
from gencompositor_jax.arch import ModelArch
from gencompositor_jax.configs.ablations import SIZES, VARIANTS
from gencompositor_jax.data_pipelines import benchmark
from gencompositor_jax.errors import InputError
from gencompositor_jax.fields import Number, Whole, within
from gencompositor_jax.files import atomic_write_text, check_local, read_json
from gencompositor_jax.training.config import flatten, load_config

RECORD, RUNS = "sweep.json", "runs"
# Keys of a config that a sweep sets itself or leaves out.
UNUSED = re.compile(
    r"(steps|seed|log_every|init|init_missing|data\.path|(distill|mesh|sharding|checkpoint|validation|profile)\..*)"
)


@dataclasses.dataclass(frozen=True)
class SweepOptions:
    """A sweep; checked when it is made. Raises InputError naming the option."""

    out: Path
    variants: tuple[str, ...] = tuple(VARIANTS)
    seeds: int = 3
    steps: int | None = None  # of every run; or else
    minutes: float | None = None  # as many as one run of the full model takes in so many minutes here
    size: str = "sweep"
    clips: int = 64  # of the benchmark, to score
    processes: int = 1  # that work at the same time
    overrides: tuple[str, ...] = ()  # of every run's config: "batch_size=4"

    def __post_init__(self) -> None:
        check_local(self.out, "--out")
        if self.out.exists() and not self.out.is_dir():
            raise InputError(f"--out {self.out}: is a file; pass a folder")
        for name in self.variants:
            if name not in VARIANTS:
                raise InputError(f"--variants {name!r}: known are {', '.join(VARIANTS)}")
        if not self.variants or len(set(self.variants)) < len(self.variants):
            raise InputError("--variants: pass names of ablations, each once")
        fields.read(Annotated[Whole, within(1, 100)], self.seeds, "--seeds")
        fields.read(Annotated[Whole, within(2, 10**8)] | None, self.steps, "--steps-per-run")
        above_0 = Annotated[Number, within(above=0, high=10**6)]
        fields.read(above_0 | None, self.minutes, "--minutes-per-run")
        if (self.steps is None) == (self.minutes is None):
            raise InputError("--steps-per-run, --minutes-per-run: pass one of them, the budget of every run")
        if self.size not in SIZES or self.size == "released":
            small = ", ".join(size for size in SIZES if size != "released")
            raise InputError(f"--size {self.size}: a sweep trains on procedural clips; pass one of {small}")
        fields.read(Annotated[Whole, within(2, benchmark.CLIPS)], self.clips, "--clips")
        fields.read(Annotated[Whole, within(1, 256)], self.processes, "--processes")
        for override in self.overrides:
            if UNUSED.fullmatch(override.partition("=")[0]):
                raise InputError(f"--config.{override}: is no option of a sweep; leave it out")
        for name in self.variants:
            config = self.config(name)
            if config.data.source not in ("procedural", "cache"):
                raise InputError(f"--config.data.source={config.data.source}: pass procedural or cache")
            if config.optimizer.warmup >= (self.steps or 10**9):
                raise InputError(
                    f"--steps-per-run {self.steps}: the warm-up alone has {config.optimizer.warmup}; pass "
                    "more, or --config.optimizer.warmup=N"
                )
            found = self.arch(config)
            if (found.frames, found.height, found.width) != _BENCHMARK:
                raise InputError("--config.arch_changes: the benchmark has 9 frames of 96 x 64; leave these")

    def config(self, variant: str, steps: int | None = None) -> ml_collections.ConfigDict:
        """A run's config, with its clips where all runs find them. Raises InputError."""
        config = load_config(f"configs/ablations.py:{variant},size={self.size}", self.overrides)
        with config.unlocked():
            config.steps = steps or self.steps or config.steps
            if self.steps is not None:  # as many for the whole sweep, whose runs share them
                config.data.clips = min(config.data.clips, self.steps * config.batch_size)
            config.data.path = str(self.out / "clips" / _clips_of(self.arch(config), config))
        return config

    @staticmethod
    def arch(config: ml_collections.ConfigDict) -> ModelArch:
        """The architecture of a config."""
        return arch_lib.preset(config.arch, config.arch_changes.to_dict())

    def run_folder(self, variant: str) -> Path:
        """Where the runs of an ablation are kept."""
        return self.out / RUNS / variant

    def record(self) -> dict[str, Any]:
        """What all runs of a sweep have in common, as JSON; without the steps that minutes are."""
        return {
            "size": self.size,
            "budget": {"steps": self.steps} if self.minutes is None else {"minutes": self.minutes},
            "overrides": list(self.overrides),
            "clips": self.clips,
            "config": self._base(),
        }

    def _base(self) -> dict[str, Any]:
        """What the runs' config says, but for what an ablation changes: the values of `full`, as JSON."""
        flat = flatten(self.config("full"))
        return dict(json.loads(json.dumps({k: flat[k] for k in sorted(flat) if not UNUSED.fullmatch(k)})))


_BENCHMARK = (benchmark.FRAMES, benchmark.HEIGHT, benchmark.WIDTH)


def _clips_of(arch: ModelArch, config: ml_collections.ConfigDict) -> str:
    """The name of the folder of a run's clips: the same for all runs that can share them."""
    what = {
        "inflation": dataclasses.asdict(arch.inflation),
        "cell": arch.offset_cell,
        "other_light": config.data.other_light,
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]


def same_runs(options: SweepOptions) -> dict[str, str]:
    """By ablation the first one of the list with the same config: x0 is the full model at a small size."""
    first: dict[str, str] = {}
    found: dict[str, str] = {}
    for name in VARIANTS:
        config = options.config(name)
        arch = arch_lib.to_json(options.arch(config))
        first[name] = found.setdefault(
            json.dumps([arch, config.data.to_json_best_effort()], sort_keys=True), name
        )
    return first


def begin(options: SweepOptions) -> int | None:
    """Write RECORD, or compare it with that of the sweep that resumes; returns its steps, if known.

    Raises InputError for a folder of a sweep of other runs.
    """
    file = options.out / RECORD
    if not file.exists():
        if (options.out / RUNS).exists():
            raise InputError(f"--out {options.out}: holds {RUNS} without {RECORD}; pass another folder")
        options.out.mkdir(parents=True, exist_ok=True)
        write_record(options, options.steps)
        return options.steps
    found = fields.read(dict[str, Any], read_json(file), str(file))
    steps = fields.read(Annotated[Whole, within(1)] | None, found.pop("steps", None), f"{file}: steps")
    known = fields.read(dict[str, Any], found.pop("config", {}), f"{file}: config")
    own = options.record()
    config = own.pop("config")
    for name, value in own.items():
        if found.get(name) != value:
            raise InputError(
                f"--out {options.out}: holds a sweep with {name} {fields.shown(found.get(name))}, not "
                f"{fields.shown(value)}; pass the same options, or another folder"
            )
    # Keys that only one of two versions of this package has don't differ.
    for key in (key for key in config if known.get(key, config[key]) != config[key]):
        raise InputError(
            f"--out {options.out}: holds runs with {key} {fields.shown(known[key])}, configs/ablations.py "
            f"says {fields.shown(config[key])}; restore it, or pass another folder"
        )
    return steps


def write_record(options: SweepOptions, steps: int | None) -> None:
    """Write RECORD."""
    text = json.dumps({**options.record(), "steps": steps}, indent=1)
    atomic_write_text(options.out / RECORD, text + "\n")
