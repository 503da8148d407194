"""Calls with one broken argument: numbers, values of a config, names of files that none can have."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.doors.call import FEW, TRAIN, Call, Make, compose, convert, remove
from tests.doors.values import NAMES, NUMBERS

# Options with numbers, by command.
PLACEMENT = ("scale", "rotation", "trajectory", "frames", "fps", "start", "end", "sigma", "tau", "segment")
FRAMES = ("in_frame", "out_frame", "range")
SAMPLING = ("seed", "steps", "feather", "guidance", "fast", "frames", "start", "fps")
OTHERS = (
    ("evaluate", "clips", "steps", "seed"),
    ("benchmark --random=tiny", "steps", "rounds", "size"),
    ("compile --out=c", "frames", "steps", "guidance"),
    ("plan --config=tiny --topology=cpu:1", "batch", "mesh"),
    ("plan --config=tiny", "topology"),
    ("data check v", "frames", "fps", "workers"),
    *(
        ("data build v --out=d", *options)
        for options in (
            ("frames", "height", "width", "fps", "quality"),
            ("clips-per-shard", "workers", "max-broken"),
        )
    ),
    # Refused in the end, whatever the numbers are: a sweep takes long.
    ("ablate --out=d --steps-per-run=9 --config.data.source=tfds", "seeds", "clips", "processes"),
    ("ablate --out=d --config.data.source=tfds", "steps-per-run", "minutes-per-run"),
    (" ".join(TRAIN), "minutes", "coordinator-timeout", "processes", "process"),
)


def numbers(base: Path) -> Iterator[Call]:
    """Numbers on the command line."""

    def of(words: list[str], name: str, number: str) -> Make:
        return lambda folder, base: [*words, f"--{name}={number}"]

    for number in NUMBERS:
        for name in PLACEMENT:
            pair = f"{number},{number}"
            value = {"trajectory": pair, "segment": f"box:{pair},{pair}"}.get(name, number)

            def placed(folder: Path, base: Path, name: str = name, value: str = value) -> list[str]:
                return compose(folder, base, **{name: value})

            yield Call("numbers of a placement", f"--{name}={value[:20]}", placed)
        for name in SAMPLING:

            def sampled(folder: Path, base: Path, name: str = name, value: str = number) -> list[str]:
                return compose(folder, base, "compose", **{name: value})

            yield Call("numbers of the sampling", f"compose --{name}={number[:20]}", sampled)

            def removed(folder: Path, base: Path, name: str = name, value: str = number) -> list[str]:
                return remove(base, f"--{name}={value}")

            yield Call("numbers of the sampling", f"remove --{name}={number[:20]}", removed)
        for name in FRAMES:
            value = f"{number}-{number}" if name == "range" else number

            def layered(folder: Path, base: Path, name: str = name, value: str = value) -> list[str]:
                return compose(folder, base, **{name: value})

            yield Call("frames of a layer", f"--{name}={value[:20]}", layered)
        for command, *names in OTHERS:
            for name in names:
                where = f"{command.split()[0]} --{name}={number[:20]}"
                yield Call("other numbers", where, of(command.split(), name, number))

        def sharded(folder: Path, base: Path, number: str = number) -> list[str]:
            return convert(base, f"--shard={number}")

        yield Call("other numbers", f"convert --shard={number[:20]}", sharded)


def paths(base: Path) -> Iterator[tuple[str, Callable[[Path, Path, str], list[str]]]]:
    """Every argument that names a file or folder: its name, and the call with another one."""
    for name in ("background", "foreground", "trajectory", "mask", "checkpoint", "out", "save_element"):
        yield f"preview --{name}", lambda f, b, p, name=name: compose(f, b, **{name: p})
    yield "preview --project", lambda f, b, p: ["preview", f"--project={p}", "--out=out"]
    yield "compose --compiled", lambda f, b, p: compose(f, b, "compose", compiled=p)
    yield "remove --mask", lambda f, b, p: [*remove(b), f"--mask={p}"]
    yield "inspect", lambda f, b, p: ["inspect", "--", p]
    yield "export", lambda f, b, p: ["export", "--out=out", "--", p]
    yield "convert", lambda f, b, p: ["convert", "--out=out", f"--null-text={b}/null.npy", "--", p]
    for name in ("transformer", "branch", "vae", "scheduler", "null-text"):
        yield f"convert --{name}", lambda f, b, p, name=name: convert(b, f"--{name}={p}")
    yield "convert --out", lambda f, b, p: [*convert(b)[:-1], f"--out={p}"]
    yield (
        "convert --text-encoder",
        lambda f, b, p: [*("convert", str(b / "release"), "--out=out", f"--text-encoder={p}")],
    )
    yield "train --workdir", lambda f, b, p: [*TRAIN[:-1], p]
    yield "train --config", lambda f, b, p: ["train", f"--config={p}", "--workdir=w"]
    cached = " ".join(("data.path --config.data.source=cache", *FEW))
    for key in ("init", cached, "data.path --config.data.source=videocomp"):
        name, *more = key.split()
        yield (
            f"train {name} {more[:1]}",
            lambda f, b, p, name=name, more=more: [*TRAIN, f"--config.{name}={p}", *more],
        )
    yield "data check", lambda f, b, p: ["data", "check", "--", p]
    yield "data build", lambda f, b, p: ["data", "build", "--out=d", "--workers=0", "--", p]
    yield (
        "data moments",
        lambda f, b, p: [*("data", "moments", "--out=d", f"--checkpoint={b / 'checkpoint'}", "--", p)],
    )
    yield "evaluate --checkpoint", lambda f, b, p: ["evaluate", "--clips=1", f"--checkpoint={p}"]
    yield "evaluate --out", lambda f, b, p: ["evaluate", "--clips=1", f"--out={p}"]
    yield "compile --out", lambda f, b, p: ["compile", f"--checkpoint={b / 'checkpoint'}", f"--out={p}"]
    yield "demo --out-dir", lambda f, b, p: ["demo", f"--out-dir={p}"]


def names(base: Path) -> Iterator[Call]:
    """Names that no file can have, and addresses."""
    for what, call in paths(base):
        for kind, name in NAMES.items():

            def make(folder: Path, base: Path, call: Any = call, name: str = name) -> list[str]:
                return call(folder, base, name)

            yield Call("names", f"{what}: {kind}", make)


OVERRIDES = """
    validation.steps=10000 arch_changes.layout=x backbone.patch=0 arch_changes.backbone.patch=0 steps=1e9
    steps=1e18 steps=-1 batch_size=1e9 batch_size=1e18 seed=-1 seed=4294967296 seed=1e30 lora.rank=1e9
    lora.alpha=nan lora.alpha=inf optimizer.accumulate=1e9 optimizer.learning_rate=inf
    optimizer.learning_rate=1e308 optimizer.warmup=1e18 optimizer.ema=1 optimizer.ema=nan
    optimizer.clip=inf optimizer.b1=1 optimizer.weight_decay=inf checkpoint.every=1e18
    checkpoint.keep_last=1e18 log_every=1e18 validation.clips=1e9 validation.every=1e18
    profile.first=1e18 profile.steps=1e18 mesh.data=0 mesh.fsdp=1e9 mesh.context=-5 mesh.tensor=1e18
    data.workers=-1 data.workers=1e6 data.prefetch=-1 data.prefetch=1e9 data.max_broken=2
    data.max_broken=-1 data.removal=5 data.removal=-1 data.gamma=(0,0) data.gamma=(-1,1) data.gamma=(2,1)
    data.gamma=(1e308,1e308) data.colour_cast=-1 data.colour_cast=1e308 data.mask_shapes=2
    data.followed=2 data.fps=0 data.start=x data.source=x init=nothing init_missing=x trainable=(
    lora.targets=[ tokens.video=0 loss.weight_cap=inf loss.timestep_bias=1e308 loss.mask_weight=inf
    compute_dtype=x remat=x sharding.rules=() sharding.rules=((1,2),)
    sharding.rules=(('x',('nothing',)),) arch=x arch= arch_changes.frames=10
    arch_changes.frames=1000000001 arch_changes.height=1600000000
    arch_changes.backbone.num_layers=1000000000 arch_changes.backbone.num_layers=0
    arch_changes.backbone.head_dim=0 arch_changes.backbone.head_dim=-16 arch_changes.backbone=5
    arch_changes.codec.space_factor=0 arch_changes.codec.time_factor=0 arch_changes.codec=5
    arch_changes.codec.kind=vae arch_changes.diffusion.train_steps=0
    arch_changes.diffusion.train_steps=1e9 arch_changes.diffusion.train_steps=1000000000
    arch_changes.diffusion.beta_end=2.0 arch_changes.diffusion.prediction=x
    arch_changes.diffusion.beta_start=-1.0 arch_changes.base_grid=0,0 arch_changes.base_grid=(1,)
    arch_changes.base_grid=(1000000000,6) arch_changes.position_scale=0.0 arch_changes.inflation.kernel=8
    arch_changes.inflation.kernel=1000000001 arch_changes.inflation.sigma=0.0
    arch_changes.inflation.sigma=1e308 arch_changes.inflation.opening=-1 arch_changes.latent_mask=x
    arch_changes.backbone.mlp_ratio=0 arch_changes.backbone.mlp_ratio=1000000000
    arch_changes.backbone.text_tokens=0 arch_changes.backbone.text_tokens=1000000000
    arch_changes.backbone.text_dim=0 arch_changes.backbone.time_embed_dim=0 arch_changes.x.y=1
    arch_changes.backbone.time_embed_dim=7 arch_changes=1 arch_changes.=1 .=1 = steps
"""


def overrides(base: Path) -> Iterator[Call]:
    """Values of a config."""
    for override in OVERRIDES.split():
        words = [*TRAIN, f"--config.{override}"]
        yield Call("train, overrides", override, lambda folder, base, words=words: words)
    keys = (
        "steps",
        "batch_size",
        "seed",
        "optimizer.learning_rate",
        "lora.alpha",
        "data.removal",
        "mesh.data",
    )
    for key in keys:
        for number in NUMBERS:
            words = [*TRAIN, f"--config.{key}={number}"]
            name = f"{key}={number[:20]}"
            yield Call("train, overrides", name, lambda folder, base, words=words: words)
