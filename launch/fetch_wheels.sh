#!/usr/bin/env bash
# Fetches the wheels that a machine with jax and torch but no package registry lacks, for launch/borrowed_gpu.sh:
# Python 3.12, x86-64, Linux. Needs an internet connection and a Python 3.12.
#
#     launch/fetch_wheels.sh DIR             for a machine that has jax, torch, torchvision and what they need
#     launch/fetch_wheels.sh DIR FREEZE.txt  for the one whose `pip list --format=freeze` is FREEZE.txt
#
# Versions are those of constraints.txt, except where that machine's own will do. Prints each wheel with its size;
# exits with 1 if they are more than LIMIT_MIB (64) in all. Set PYTHON if it isn't python3.12.
set -euo pipefail
cd_from=$PWD
cd "$(dirname "$0")/.."

if (($# < 1 || $# > 2)); then
    echo "usage: [PYTHON=python3.12] [LIMIT_MIB=64] $0 DIR [FREEZE.txt]" >&2
    exit 2
fi
from_caller() { case $1 in /*) echo "$1" ;; *) echo "$cd_from/$1" ;; esac; }
python=${PYTHON:-python3.12} limit=${LIMIT_MIB:-64} wheels=$(from_caller "$1") freeze=${2:+$(from_caller "$2")}
target='3.12 x86_64 Linux'
found=$("$python" -c 'import platform as p; print(p.python_version().rpartition(".")[0], p.machine(), p.system())') || found=none
if [[ $found != "$target" ]]; then
    echo "$0: $python is '$found', but wheels are chosen by the Python that runs pip: set PYTHON to a $target" >&2
    exit 2
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
if [[ -z $freeze ]]; then
    # jax and torch with their dependencies, and torchvision's Pillow; versions that satisfy any requirement.
    grep -iE '^(jax|jaxlib|ml_dtypes|numpy|opt_einsum|scipy|torch|filelock|fsspec|Jinja2|MarkupSafe|mpmath|networkx|pillow|setuptools|sympy|typing_extensions)==' \
        constraints.txt | sed "/< '3.12'/d; s/;.*//" >"$scratch/freeze"
else
    grep -E '^[A-Za-z0-9._-]+==' "$freeze" >"$scratch/freeze"
fi

# An environment in which pip finds these packages installed, so that it reports only what is missing or too old.
"$python" -m venv "$scratch/venv"
pip=("$scratch/venv/bin/python" -m pip --disable-pip-version-check)
"$scratch/venv/bin/python" - "$scratch/freeze" constraints.txt >"$scratch/constraints" <<'PYTHON'
import re, sys, sysconfig
from pathlib import Path

site = Path(sysconfig.get_path("purelib"))
own = {"pip"}  # the one that runs
present = set()
canonical = lambda name: re.sub(r"[-_.]+", "-", name).lower()
for line in Path(sys.argv[1]).read_text().split():
    name, _, version = line.partition("==")
    if canonical(name) in own | present:
        continue
    present.add(canonical(name))
    folder = site / f"{canonical(name).replace('-', '_')}-{version}.dist-info"
    folder.mkdir(exist_ok=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
for line in Path(sys.argv[2]).read_text().splitlines():
    if line and not line.startswith("#") and canonical(line.partition("==")[0]) not in present:
        print(line)
PYTHON

for which in '' pytorch; do
    "$python" launch/borrowed_requirements.py $which
done >"$scratch/requirements"
"${pip[@]}" install --quiet --dry-run --only-binary=:all: --report "$scratch/report.json" \
    -c "$scratch/constraints" -r "$scratch/requirements"
"$python" -c 'import json, sys
for found in json.load(open(sys.argv[1]))["install"]:
    print("{name}=={version}".format(**found["metadata"]))' "$scratch/report.json" >"$scratch/missing"
mkdir -p "$wheels"
if [[ -s $scratch/missing ]]; then
    "${pip[@]}" download --quiet --no-deps --only-binary=:all: --dest "$wheels" -r "$scratch/missing"
fi

total=0
while read -r bytes name; do
    printf '%8.2f MiB  %s\n' "$(awk "BEGIN { print $bytes / 1048576 }")" "$name"
    total=$((total + bytes))
done < <(find "$wheels" -name '*.whl' -printf '%s %f\n' | sort -rn)
printf '%8.2f MiB  in all, of at most %s\n' "$(awk "BEGIN { print $total / 1048576 }")" "$limit"
if ((total > limit * 1048576)); then
    echo "$0: too much to carry; pass the machine's own 'pip list --format=freeze' as FREEZE.txt" >&2
    exit 1
fi
