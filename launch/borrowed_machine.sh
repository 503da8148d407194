#!/usr/bin/env bash
# What the scripts for a borrowed GPU begin with. They source it with their arguments, OUT MINUTES, and have set
#
#     options         of their usage message
#     work            their folder for everything that isn't kept, unless WORK names another
#     keep            a function that brings OUT up to date
#
# From then on the working directory is the repository's root, all output goes to OUT/log.txt, too, and SIGTERM ends the
# command of `within`, keeps what there is and ends the script. They call prepare, keep_on and, at the end, finish.

number='^[0-9]*\.?[0-9]+$'
if [[ $# -ne 2 || ! $2 =~ $number ]]; then
    echo "usage: [SMALL=1] $options [WHEELS=DIR] [WORK=DIR] $0 OUT MINUTES" >&2
    exit 2
fi
mkdir -p "$1" || exit 2
out=$(cd "$1" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2
seconds=$(awk "BEGIN { print int(60 * $2) }")
left() { echo $((seconds - SECONDS)); }

base=${PYTHON:-python3} wheels=${WHEELS:-wheels}
mkdir -p "${WORK:=$work}" || exit 2
work=$(cd "$WORK" && pwd)
python=$work/venv/bin/python
export GENCOMPOSITOR_CACHE=${GENCOMPOSITOR_CACHE-$work/cache} SMALL=${SMALL:-}

exec 8>"$work/lock"
if ! flock -w 20 8; then
    echo "$0: an earlier call, or what it started, still works in $work: end it, or pass another WORK" >&2
    exit 1
fi
exec > >(exec 8>&-; trap '' INT TERM; exec tee -a "$out/log.txt") 2>&1
say() { echo "== $(date -u +%H:%M:%S) $*"; }

main=$$ keeper='' child=''
exec 7<> <(:) # a line in this pipe ends the keeper
# keep_on SECONDS: from now on OUT is brought up to date again and again.
keep_on() {
    while ! read -rt "$1" -u 7 && kill -0 "$main" 2>/dev/null; do keep; done &
    keeper=$!
}
finish() {
    if [[ -n $keeper ]]; then echo >&7 && wait "$keeper"; fi
    keep
}
terminate() {
    trap '' INT TERM
    say 'ended by a signal'
    if [[ -n $child ]]; then kill -TERM "$child" 2>/dev/null && wait "$child"; fi
    finish
    exit 143
}
trap terminate INT TERM

# within SECONDS COMMAND...: runs a command, and ends it after that time.
within() {
    if (($1 < 1)); then return 124; fi
    timeout -k 10 "$@" &
    child=$!
    wait "$child"
    local code=$?
    child=
    return "$code"
}

# prepare [REQUIREMENTS]: installs what is missing, and this set of launch/borrowed_requirements.py if it can be; then
# looks for the GPU. Exits with 2 where something is missing.
prepare() {
    if [[ ! -e $work/venv/ready ]]; then
        # The packages of the Python that is there, which may itself be a virtual environment, stay visible to this one.
        rm -rf "$work/venv"
        "$base" -m venv --without-pip "$work/venv" || exit 2
        "$base" -c 'import os, sys; print(os.getcwd(), *[p for p in sys.path if p.endswith("-packages")], sep="\n")' \
            >"$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/outer.pth"
        local install=("$python" -m pip install --quiet --disable-pip-version-check --no-compile --no-index --find-links "$wheels")
        "$base" launch/borrowed_requirements.py >"$work/requirements.txt"
        if ! "${install[@]}" -r "$work/requirements.txt"; then
            say "packages are missing here and in $wheels: fetch them with launch/fetch_wheels.sh"
            exit 2
        fi
        if (($#)); then
            "${install[@]}" "$("$base" launch/borrowed_requirements.py "$1")" || say "what needs $1 can't be measured"
        fi
        touch "$work/venv/ready"
    fi
    nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader 2>/dev/null
    if ! "$python" - <<'PYTHON'
import os, sys
import jax

device = jax.devices()[0]
print(f"{len(jax.devices())} x {device.device_kind} ({device.platform}), jax {jax.__version__}, {os.cpu_count()} cores")
sys.exit(device.platform != "gpu" and not os.environ["SMALL"])
PYTHON
    then
        say 'JAX finds no GPU here: install its CUDA plugin, or rehearse with SMALL=1'
        exit 2
    fi
}
