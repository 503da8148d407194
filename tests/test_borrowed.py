"""launch/borrowed_gpu.sh with a stand-in for Python: what it runs, what it keeps, how it resumes."""

import ast
import importlib.util
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from gencompositor_jax import checkpoints
from gencompositor_jax.cli import parse
from gencompositor_jax.training.config import load_config
from tests import processes
from tests.test_house import MODULES, modules

ROOT = Path(__file__).parents[1]
LAUNCH = ROOT / "launch"
SCRIPT = LAUNCH / "borrowed_gpu.sh"
FILES = ["evaluation.json", "log.txt", "model.tar", "results.tar"]
# In the order of their worth; what measures PyTorch may need a second call.
MEASURED = [
    "check",
    "sample",
    "torch",
    "convolutions",
    "lora",
    "train",
    "guided",
    "int8",
    "attention",
    "memory",
]

# Stands for python3: records its arguments; training and evaluation write the files that the script reads.
FAKE = """#!{python}
import json, os, pathlib, sys, time
words, env = sys.argv[1:], os.environ
with open(env["CALLS"], "a") as calls:
    calls.write(json.dumps(words) + chr(10))
def after(name):
    return pathlib.Path(words[words.index(name) + 1])
match words:
    case ["-m", "venv", _, folder]:
        (pathlib.Path(folder) / "bin").mkdir(parents=True)
        (pathlib.Path(folder) / "bin" / "python").symlink_to(__file__)
    case ["-m", "pip", *_]:
        sys.exit(env.get("FAKE_PIP", "") in " ".join(words) and "FAKE_PIP" in env)
    case ["-"]:
        print("a device")
        sys.exit(int(env.get("FAKE_DEVICE", 0)))
    case ["-c", code, *_] if "purelib" in code:
        print(pathlib.Path(env["CALLS"]).parent)
    case ["-c" | "launch/borrowed_requirements.py", *_]:
        os.execv(sys.executable, [sys.executable, *words])
    case ["-m", "gencompositor_jax", "train", *_]:
        folder, values = after("--workdir"), dict(w.split("=", 1) for w in words if "=" in w)
        steps = int(values["--config.steps"])
        step = 40 if steps == 10**8 else min(steps, int(env.get("FAKE_STEP", steps)))
        new = folder / f"new-{{step}}"
        new.mkdir(parents=True)
        (new / "weights").write_bytes(os.urandom(int(env.get("FAKE_BYTES", 1000))))
        about = {{"step": step, "config": {{"steps": steps}}}}
        (new / "model.json").write_text(json.dumps({{"provenance": about}}))
        if (folder / "model").exists():
            (folder / "model").rename(folder / f"old-{{step}}")
        new.rename(folder / "model")
        (folder / "checkpoints").mkdir(exist_ok=True)
        with open(folder / "metrics.jsonl", "a") as metrics:
            metrics.write(json.dumps({{"step": step, "steps_per_second": 2.0}}) + chr(10))
        if "FAKE_HANG" in env and steps < 10**8:
            print("hangs", flush=True)
            time.sleep(600)
    case ["-m", "gencompositor_jax", "evaluate", *_]:
        model = json.loads((after("--checkpoint") / "model.json").read_text())
        after("--out").write_text(json.dumps({{"model": {{"trained_steps": model["provenance"]["step"]}}}}))
    case _:
        print(json.dumps({{"measured": words}}))
"""


@pytest.fixture
def machine(tmp_path):
    """A function that makes the environment of a machine, with its own WORK, from a number."""
    fake = tmp_path / "python"
    fake.write_text(FAKE.format(python=sys.executable))
    fake.chmod(0o755)

    def make(number=0, **more):
        given = {
            "PYTHON": str(fake),
            "CALLS": str(tmp_path / "calls"),
            "WORK": str(tmp_path / f"work{number}"),
        }
        kept = {k: v for k, v in os.environ.items() if k not in ("SMALL", "STEPS", "CONFIG", "WHEELS")}
        return {**kept, **given, **more}

    return make


def borrowed(out, env, minutes="2"):
    """A call, with the commands that it ran."""
    calls = Path(env["CALLS"])
    calls.write_text("")
    done = subprocess.run(
        [SCRIPT, out, minutes],
        env=env,
        capture_output=True,
        text=True,
        timeout=processes.PATIENCE_S,
        check=False,
    )
    return done, commands(env)


def commands(env):
    return [json.loads(line) for line in Path(env["CALLS"]).read_text().splitlines()]


def of(kind, calls):
    return [words[3:] for words in calls if words[:3] == ["-m", "gencompositor_jax", kind]]


def model_of(out):
    with tarfile.open(out / "model.tar") as tar:
        assert len(tar.extractfile("./weights").read()) == 1000
        return json.loads(tar.extractfile("./model.json").read())["provenance"]


def test_a_call_trains_evaluates_measures_and_the_next_repeats_nothing(machine, tmp_path):
    out, env = tmp_path / "out", machine()
    done, calls = borrowed(out, env)
    assert done.returncode == 0, done.stdout
    assert sorted(path.name for path in out.iterdir()) == FILES

    probe, training = (parse(["train", *words]) for words in of("train", calls))
    settings = load_config(str(ROOT / training.config), training.overrides)
    assert load_config(str(ROOT / probe.config), probe.overrides).steps == 10**8
    # After the 40 of the probe, two steps per second for at most 65 % of two minutes.
    assert 40 < settings.steps <= 40 + 2 * 78
    assert settings.checkpoint.every == 81 and settings.checkpoint.model and not settings.init
    assert 0 < training.minutes <= 0.65 * 2

    assert model_of(out)["step"] == settings.steps
    assert json.loads((out / "evaluation.json").read_text())["model"]["trained_steps"] == settings.steps
    with tarfile.open(out / "results.tar") as tar:
        found = {Path(name).stem for name in tar.getnames() if name.endswith(".json")}
        assert found == {*MEASURED}
        assert any(name.endswith("metrics.jsonl") for name in tar.getnames())
    started = [
        line.split("measurement: ")[1].split(";")[0]
        for line in done.stdout.splitlines()
        if "measurement:" in line
    ]
    assert started == [*MEASURED, "torch"]

    done, calls = borrowed(out, env)
    assert done.returncode == 0
    assert not of("train", calls) and not of("evaluate", calls)
    others = [words for words in calls if words[0] == "benchmarks/gpu_vs_torch.py" or "benchmark" in words]
    assert {words[0] for words in others} == {"benchmarks/gpu_vs_torch.py"}


@pytest.mark.slow
def test_another_machine_starts_from_the_weights_unless_they_are_complete(machine, tmp_path):
    out = tmp_path / "out"
    borrowed(out, machine(0, FAKE_STEP="50", STEPS="100"))
    assert model_of(out)["step"] == 50

    env = machine(1, STEPS="100")
    (words,) = of("train", borrowed(out, env)[1])
    (start,) = [w.partition("=")[2] for w in words if w.startswith("--config.init=")]
    assert Path(start) == Path(env["WORK"]) / "start" and (Path(start) / "weights").exists()
    assert json.loads((Path(start) / "model.json").read_text())["provenance"]["step"] == 50
    assert model_of(out)["step"] == 100

    done, calls = borrowed(out, machine(2))
    assert "all of its 100 steps" in done.stdout and not of("train", calls) and not of("evaluate", calls)
    assert "sample: already measured" in done.stdout  # the figures came with OUT


@pytest.mark.multiprocess
def test_what_is_killed_leaves_whole_files_and_resumes(machine, tmp_path):
    out, env = tmp_path / "out", machine(STEPS="100", FAKE_STEP="40", FAKE_HANG="1")
    out.mkdir()
    (out / "part").write_bytes(b"of a call that was killed")
    Path(env["CALLS"]).write_text("")
    with processes.start([str(SCRIPT), str(out), "3"], tmp_path / "logs", env=env) as group:
        group.wait_for("hangs")
        wait_until(lambda: (out / "model.tar").exists() and (out / "results.tar").exists())
        kill_session(group.processes[0].pid)
    assert model_of(out)["step"] == 40
    assert {path.name for path in out.iterdir()} <= {*FILES, "part"}

    done, calls = borrowed(out, machine(STEPS="100"))
    assert done.returncode == 0, done.stdout
    (words,) = of("train", calls)
    assert not [w for w in words if w.startswith("--config.init=")]  # WORK has checkpoints
    assert model_of(out)["step"] == 100 and sorted(path.name for path in out.iterdir()) == FILES


def wait_until(happened):
    end = time.monotonic() + processes.PATIENCE_S
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.05)


def kill_session(session):
    """SIGKILL to the script and to what `timeout` has moved to other process groups."""
    spec = importlib.util.spec_from_file_location("rehearse", ROOT / "benchmarks" / "rehearse_borrowed.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.kill(session)


def test_a_model_that_is_too_large_to_keep_is_reported(machine, tmp_path):
    done, _ = borrowed(tmp_path / "out", machine(STEPS="10", FAKE_BYTES=str(2**24)), "0.05")
    assert "model.tar has" in done.stdout and "not kept" in done.stdout
    assert not (tmp_path / "out" / "model.tar").exists()


@pytest.mark.parametrize(
    ("env", "message"),
    [({"FAKE_DEVICE": "1"}, "JAX finds no GPU here"), ({"FAKE_PIP": "-r"}, "launch/fetch_wheels.sh")],
)
def test_a_machine_without_gpu_or_packages_is_refused(machine, tmp_path, env, message):
    done, calls = borrowed(tmp_path / "out", machine(**env))
    assert done.returncode == 2 and message in done.stdout
    assert not of("train", calls)


@pytest.mark.parametrize("args", [(), ("out",), ("out", "soon"), ("out", "-3")])
def test_the_usage_is_printed(args, tmp_path):
    done = subprocess.run([SCRIPT, *args], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2 and "usage:" in done.stderr


def test_the_default_model_fits_into_a_file():
    """The embedded model's files have 1.6 bytes per parameter, as Orbax compresses them."""
    import jax

    from gencompositor_jax import arch

    config = load_config(str(ROOT / "configs" / "tiny.py:linear,gpu"))
    shapes = checkpoints.array_shapes(arch.preset(config.arch, config.arch_changes.to_dict()))
    assert 1.6 * sum(x.size for x in jax.tree.leaves(shapes)) < 16 * 2**20


def test_requirements_are_the_projects_without_pyav():
    words = [sys.executable, str(ROOT / "launch" / "borrowed_requirements.py")]
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    assert any(line.startswith("grain>=") for line in lines) and not any(
        line.startswith("av>") for line in lines
    )
    (line,) = subprocess.run(
        [*words, "pytorch"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert line.startswith("diffusers>=")


def imported(module, when_run=False):
    """The modules that a file imports when it is imported itself, or in its functions, too; a package's
    __init__ comes first.
    """
    tree = ast.parse(dict(modules())[module].read_text(encoding="utf-8"))
    for node in ast.walk(tree) if when_run else tree.body:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            yield from (name.rsplit(".", n)[0] for n in range(name.count(".") + 1))


@pytest.mark.parametrize(
    "root",
    [
        "training.loop",
        "evaluation.heldout",
        "evaluation.plate",
        "evaluation.report",
        "perf.benchmark.sampling",
        "cli",
        "versions",
    ],
)
def test_training_evaluation_and_benchmarks_do_not_import_pyav(root):
    waiting, seen = [f"gencompositor_jax.{root}"], set()
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting += imported(module) if module in MODULES else ()
    assert f"gencompositor_jax.{root}" in seen
    assert "av" not in seen


def test_the_benchmark_command_does_not_import_pyav():
    later = [name for name in imported("gencompositor_jax.cli.benchmark", when_run=True) if name in MODULES]
    assert "gencompositor_jax.versions" in later
    # What it loads for a checkpoint isn't used with random weights.
    waiting, seen = [name for name in later if not name.endswith("cli.rendering")], set()
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting += imported(module) if module in MODULES else ()
    assert "av" not in seen


# fetch_wheels.sh

# Stands for Python 3.12; its virtual environments are real, with a pip that reads and writes no registry.
FAKE_312 = """#!{python}
import os, pathlib, subprocess, sys
match sys.argv[1:]:
    case ["-c", code] if "platform" in code:
        print(os.environ["FAKE_TARGET"])
    case ["-m", "venv", folder]:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        site = next(pathlib.Path(folder).glob("lib/python3.*/site-packages"))
        (site / "pip").mkdir()
        (site / "pip" / "__main__.py").write_text(pathlib.Path(os.environ["FAKE_PIP"]).read_text())
    case words:
        os.execv(sys.executable, [sys.executable, *words])
"""
FAKE_PIP = """
import importlib.metadata, json, pathlib, re, sys
words = sys.argv[1:]
lines = lambda name: pathlib.Path(words[words.index(name) + 1]).read_text().splitlines()
if "download" in words:
    for line in lines("-r"):
        (pathlib.Path(words[words.index("--dest") + 1]) / f"{line}.whl").write_bytes(bytes(2**20))
    sys.exit()
canonical = lambda name: re.sub("[-_.]+", "-", name).lower()
installed = {canonical(d.name) for d in importlib.metadata.distributions()}
pairs = (line.split(";")[0].split("==") for line in lines("-c"))
pins = {canonical(name): version for name, version in pairs}
found = []
for line in lines("-r"):
    name = canonical(re.match(r"[A-Za-z0-9._-]+", line)[0])
    if name not in installed:
        found.append({"metadata": {"name": name, "version": pins[name]}})
pathlib.Path(words[words.index("--report") + 1]).write_text(json.dumps({"install": found}))
"""


@pytest.fixture
def fetch(tmp_path):
    (tmp_path / "python3.12").write_text(FAKE_312.format(python=sys.executable))
    (tmp_path / "python3.12").chmod(0o755)
    (tmp_path / "pip.py").write_text(FAKE_PIP)
    fakes = {"PYTHON": str(tmp_path / "python3.12"), "FAKE_PIP": str(tmp_path / "pip.py")}

    def run(*words, **env):
        env = {**os.environ, "FAKE_TARGET": "3.12 x86_64 Linux", **fakes, **env}
        return subprocess.run(
            [LAUNCH / "fetch_wheels.sh", *words],
            env=env,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_the_wheels_that_a_machine_lacks_are_fetched_and_weighed(fetch, tmp_path):
    have = "ml-collections==1.1.0\nabsl_py==2.5.1\nnot a line\nflax @ file:///here\nGrain==0.2.17\n"
    (tmp_path / "freeze.txt").write_text(have)
    done = fetch("wheels", "freeze.txt")
    assert done.returncode == 0, done.stderr
    names = {path.name.partition("==")[0] for path in (tmp_path / "wheels").iterdir()}
    assert {"flax", "diffusers", "opencv-python-headless"} <= names
    assert not names & {"ml-collections", "absl-py", "grain", "av"}
    assert f"{len(names)}.00 MiB  in all, of at most 64" in done.stdout

    done = fetch("small")
    assert done.returncode == 0, done.stderr
    assert not {"jax", "numpy", "pillow"} & {
        path.name.partition("==")[0] for path in (tmp_path / "small").iterdir()
    }
    assert fetch("small", LIMIT_MIB="3").returncode == 1


@pytest.mark.parametrize(
    ("words", "target", "message"),
    [((), "3.12 x86_64 Linux", "usage:"), (("wheels",), "3.11 x86_64 Linux", "is '3.11 x86_64 Linux'")],
)
def test_wheels_of_another_python_are_refused(fetch, words, target, message):
    done = fetch(*words, FAKE_TARGET=target)
    assert done.returncode == 2 and message in done.stderr
