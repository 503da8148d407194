"""The launch scripts: they run, their flags and files exist, and they restart when they should."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from gencompositor_jax.cli import parse
from gencompositor_jax.training.config import load_config
from tests import processes

ROOT = Path(__file__).parents[1]
LAUNCH = ROOT / "launch"
SCRIPTS = sorted(path for path in LAUNCH.iterdir() if path.read_bytes().startswith(b"#!"))
JOBSETS = sorted(LAUNCH.glob("*.yaml"))
ARGS = ["--config", "configs/tiny.py:runlocal", "--workdir", "runs/a b"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_valid_and_executable(script):
    shell = "bash" if b"bash" in script.read_bytes().splitlines()[0] else "sh"
    subprocess.run([shell, "-n", script], check=True)
    if script.suffix == ".sh" and shell == "bash":
        assert os.access(script, os.X_OK)


def texts():
    return sorted(path for path in LAUNCH.iterdir() if path.is_file())


def train_commands(text):
    """The arguments from --config on of each command in a file, without its shell variables."""
    for line in re.sub(r"\\\n#?\s*", " ", text).splitlines():
        found = re.search(
            r"(?:gencompositor(?:_jax)? train|launch/\w+\.\w+) .*?(?=--config[ =]configs/)", line
        )
        if found:
            words = shlex.split(line[found.end() :].split("`")[0], comments=True)
            pairs = zip(words, [*words[1:], ""], strict=True)
            yield [w for w, after in pairs if not ("$" in w or (w.startswith("--") and "$" in after))]


@pytest.mark.parametrize("path", texts(), ids=lambda path: path.name)
def test_commands_in_comments_and_documents_are_valid(path):
    for words in train_commands(path.read_text()):
        args = parse(["train", "--workdir", "runs/here", *words])
        load_config(str(ROOT / args.config), args.overrides)


def test_such_commands_are_found():
    assert sum(len(list(train_commands(path.read_text()))) for path in texts()) >= 7


def test_links_in_the_readme_exist():
    targets = re.findall(r"\]\(([^)#\s]+)\)", (LAUNCH / "README.md").read_text())
    assert len(targets) > 8
    assert not [t for t in targets if not (LAUNCH / t).exists()]
    named = {Path(t).name for t in targets}
    assert {path.name for path in SCRIPTS} | {path.name for path in JOBSETS} <= named


# JobSets


def job(path: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    jobset = yaml.safe_load(path.read_text())
    (replicated,) = jobset["spec"]["replicatedJobs"]
    return jobset, replicated, replicated["template"]["spec"]


@pytest.mark.parametrize("path", JOBSETS, ids=lambda path: path.name)
def test_jobsets_restart_all_machines_together(path):
    jobset, replicated, spec = job(path)
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert jobset["spec"]["failurePolicy"]["maxRestarts"] > 0
    assert replicated["replicas"] == 1  # several jobs would need process numbers across jobs
    assert spec["parallelism"] == spec["completions"]
    assert (spec["completionMode"], spec["backoffLimit"]) == ("Indexed", 0)
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never"  # required by a pod failure policy
    (rule,) = spec["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob"
    assert rule["onExitCodes"] == {"containerName": "train", "operator": "In", "values": [2]}
    (exit_rule,) = jobset["spec"]["failurePolicy"]["rules"]
    assert (exit_rule["action"], exit_rule["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy"])


@pytest.mark.parametrize("path", JOBSETS, ids=lambda path: path.name)
def test_jobsets_run_a_valid_command_on_their_volumes(path):
    _, _, spec = job(path)
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert container["name"] == "train"
    assert "command" not in container  # so the entry point of the image runs
    words = [word.replace("$(JOB_COMPLETION_INDEX)", "1") for word in container["args"]]
    assert words[:2] == ["gencompositor", "train"]
    args = parse(words[1:])
    config = load_config(str(ROOT / args.config), args.overrides)
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert set(mounts) == {volume["name"] for volume in pod["volumes"]}
    for folder in (args.workdir, config.init, config.data.path):
        assert folder.startswith(mounts["shared"] + "/")
    (kind,) = set(container["resources"]["limits"])
    assert container["image"].endswith({"google.com/tpu": ":tpu", "nvidia.com/gpu": ":cuda"}[kind])


def test_the_tpu_job_has_as_many_machines_as_its_slice():
    _, _, spec = job(LAUNCH / "gke.yaml")
    pod = spec["template"]["spec"]
    x, y, z = map(int, pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x"))
    assert x * y * z == spec["parallelism"] * pod["containers"][0]["resources"]["limits"]["google.com/tpu"]


def test_the_gpu_job_names_its_first_pod():
    jobset, replicated, spec = job(LAUNCH / "gke_gpu.yaml")
    (container,) = spec["template"]["spec"]["containers"]
    args = container["args"]
    flags = dict(word.split("=", 1) for word in args if "=" in word)
    host, _, port = flags["--coordinator"].partition(":")
    name = jobset["metadata"]["name"]
    assert host == f"{name}-{replicated['name']}-0-0.{name}"
    assert int(port) in {p["containerPort"] for p in container["ports"]}
    assert int(flags["--processes"]) == spec["parallelism"]
    assert flags["--process"] == "$(JOB_COMPLETION_INDEX)"
    gpus = spec["parallelism"] * container["resources"]["limits"]["nvidia.com/gpu"]
    config = load_config(
        str(ROOT / flags["--config"]),
        [w.removeprefix("--config.") for w in args if w.startswith("--config.")],
    )
    assert config.batch_size % gpus == 0


def test_the_files_of_the_image_exist():
    text = (LAUNCH / "Dockerfile").read_text()
    ignored = (LAUNCH / "Dockerfile.dockerignore").read_text().split()
    sources = [word for line in re.findall(r"^COPY (.+)$", text, re.MULTILINE) for word in line.split()[:-1]]
    assert len(sources) >= 7
    for source in sources:
        assert (ROOT / source).exists()
        assert f"!{source}" in ignored
    assert re.search(r'ENTRYPOINT \["(.+)"\]', text)[1] in sources
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert set(re.findall(r"EXTRA=(\w+)", text)) <= settings["project"]["optional-dependencies"].keys()
    for needed in settings["tool"]["setuptools"]["packages"]["find"]["include"]:
        assert needed.removesuffix("*") in sources


# local.sh, as it is


def run_local(*args, **env):
    return subprocess.run(
        ["bash", LAUNCH / "local.sh", *args],
        env={**os.environ, "PYTHON": sys.executable, **env},
        capture_output=True,
        text=True,
        timeout=processes.PATIENCE_S,
        check=False,
    )


@pytest.mark.multiprocess
def test_local_joins_processes_over_loopback(tmp_path):
    from tests.training.test_distributed import MEMBER

    done = run_local("2", "2", "--", sys.executable, "-c", MEMBER, "ends", "30")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "0| sum 4 of 2 here, first: True" in lines
    assert "1| sum 4 of 2 here, first: False" in lines


@pytest.mark.multiprocess
def test_local_ends_all_processes_when_one_dies_and_restarts(tmp_path):
    """Process 1 fails at the first start, while process 0 waits; at the second start both succeed."""
    script = tmp_path / "member.py"
    script.write_text(
        "import os, pathlib, sys, time\n"
        f"mark = pathlib.Path({str(tmp_path / 'failed')!r})\n"
        "if mark.exists(): print('success'); sys.exit(0)\n"
        "if sys.argv[-1] == '1': time.sleep(0.5); mark.touch(); os.kill(os.getpid(), 9)\n"
        "time.sleep(600)\n"
    )
    command = ("2", "1", "--", sys.executable, str(script))
    once = run_local(*command, GRACE="0")
    assert once.returncode == 137
    assert "process 1 ended with code 137" in once.stderr
    (tmp_path / "failed").unlink()
    again = run_local(*command, GRACE="0", RESTARTS="1")
    assert again.returncode == 0
    assert "restarting (1 of 1)" in again.stderr
    assert {"0| success", "1| success"} <= set(again.stdout.splitlines())


@pytest.mark.multiprocess
def test_local_does_not_restart_after_wrong_input(tmp_path):
    done = run_local("1", "1", "--config", str(tmp_path / "no.py"), "--workdir", str(tmp_path), RESTARTS="3")
    assert done.returncode == 2
    assert "0| gencompositor: --config" in done.stdout
    assert "restarting" not in done.stderr


@pytest.mark.parametrize("args", [(), ("2", "2"), ("0", "1", "--config"), ("2", "x", "--config")])
def test_local_prints_its_usage(args):
    done = run_local(*args)
    assert done.returncode == 2
    assert "usage:" in done.stderr


# The other scripts, with replacements for the cluster's commands


@pytest.fixture
def fake_commands(tmp_path, monkeypatch):
    """Commands in front of PATH that append their arguments to calls.txt and then run `script`."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def add(name, script=""):
        note = f'{{ printf "%q " {name} "$@"; echo; }} >> {tmp_path}/calls.txt'
        (folder / name).write_text(f"#!/bin/bash\n{note}\n{script}\n")
        (folder / name).chmod(0o755)

    def calls():
        text = (tmp_path / "calls.txt").read_text()
        return [shlex.split(line) for line in text.splitlines()]

    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_SUBMIT_DIR", str(tmp_path))
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "4")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("VENV", str(tmp_path / "bin" / ".."))
    return add, calls


def sbatch(**env):
    return subprocess.run(
        ["bash", LAUNCH / "slurm.sbatch", *ARGS],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=processes.PATIENCE_S,
        check=False,
    )


def codes(tmp_path, *numbers):
    """A script that exits with these codes, one per call."""
    file = tmp_path / "codes.txt"
    file.write_text("\n".join(map(str, numbers)) + "\n")
    return f'code=$(head -n 1 {file}); sed -i 1d {file}; exit "$code"'


@pytest.mark.parametrize(
    ("ends", "code", "starts"), [([0], 0, 1), ([134, 1, 0], 0, 3), ([2, 0], 2, 1), ([9] * 9, 9, 3)]
)
def test_slurm_restarts_unless_the_input_is_wrong(fake_commands, tmp_path, ends, code, starts):
    add, calls = fake_commands
    add("srun", codes(tmp_path, *ends))
    assert sbatch(RESTARTS="2").returncode == code
    assert len(calls()) == starts
    for words in calls():
        assert words[0] == "srun"
        at = words.index("gencompositor")
        assert words[at:] == ["gencompositor", "train", *ARGS]
        parse(words[at + 1 :])


def test_slurm_saves_and_queues_again_before_the_time_limit(fake_commands, tmp_path):
    add, calls = fake_commands
    cancelled = tmp_path / "cancelled"
    add("srun", f"touch {tmp_path}/runs; while [ ! -e {cancelled} ]; do sleep 0.05; done")
    add("scancel", f"touch {cancelled}")
    add("scontrol")
    with processes.start(
        ["bash", str(LAUNCH / "slurm.sbatch"), *ARGS], tmp_path, env=slurm_environment()
    ) as group:
        wait_for_file(tmp_path / "runs")
        group.kill(0, signal.SIGTERM)  # from Slurm, to the script as well, which waits for its step
        group.kill(0, signal.SIGUSR1)
        assert group.wait() == [0], group.tails()
    assert [words[0] for words in calls()] == ["srun", "scancel", "scontrol"]
    assert calls()[1:] == [["scancel", "--quiet", "--signal=TERM", "17"], ["scontrol", "requeue", "17"]]


def slurm_environment():
    return {name: value for name, value in os.environ.items() if name.startswith("SLURM_")}


def wait_for_file(path):
    end = time.monotonic() + processes.PATIENCE_S
    while time.monotonic() < end:
        if path.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} was never created")


def test_slurm_asks_for_one_task_per_node_and_time_to_save():
    options = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?", (LAUNCH / "slurm.sbatch").read_text(), re.M))
    assert options["ntasks-per-node"] == "1"
    assert re.fullmatch(r"B:USR1@\d{3,}", options["signal"])
    assert "requeue" in options


def tpu_vm(*args, **env):
    return subprocess.run(
        [LAUNCH / "tpu_vm.sh", "pod", "zone-a", *args],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=processes.PATIENCE_S,
        check=False,
    )


def test_tpu_vm_trains_on_all_workers_and_restarts(fake_commands, tmp_path):
    add, calls = fake_commands
    add("gcloud", codes(tmp_path, 1, 0))
    add("sleep")
    assert tpu_vm(*ARGS, RESTARTS="1").returncode == 0
    first, _, second = calls()
    assert first == second
    assert first[:6] == ["gcloud", "compute", "tpus", "tpu-vm", "ssh", "pod"]
    assert {"--zone=zone-a", "--worker=all"} <= set(first)
    (command,) = [w.removeprefix("--command=") for w in first if w.startswith("--command=")]
    words = shlex.split(command)
    assert words[words.index("train") + 1 :] == ARGS  # the space in the workdir is still quoted
    assert words[words.index("train") - 1].endswith("bin/gencompositor")


def test_tpu_vm_installs_the_commit(fake_commands, tmp_path):
    add, calls = fake_commands
    add("gcloud")
    assert tpu_vm("install").returncode == 0
    copy, install = calls()
    assert copy[4] == "scp"
    assert copy[6].startswith("pod:")
    assert "'.[all,tpu]'" in install[-1]
    assert tpu_vm("stop").returncode == 0
    assert "pkill -TERM" in calls()[-1][-1]


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 5", 5)])
def test_the_entry_point_returns_the_exit_code(script, code):
    done = subprocess.run(
        [LAUNCH / "entrypoint.sh", "bash", "-c", script], check=False, timeout=processes.PATIENCE_S
    )
    assert done.returncode == code


@pytest.mark.parametrize(("own", "code"), [(0, 143), (7, 7)])
def test_the_entry_point_exits_with_143_after_sigterm(tmp_path, own, code):
    script = f"trap 'sleep 0.2; echo saved; exit {own}' TERM; echo ready; while :; do sleep 0.05; done"
    with processes.start([str(LAUNCH / "entrypoint.sh"), "bash", "-c", script], tmp_path) as group:
        group.wait_for("ready")
        group.kill(0, signal.SIGTERM)
        assert group.wait() == [code]
        assert "saved" in group.log()
