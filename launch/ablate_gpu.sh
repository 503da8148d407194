#!/usr/bin/env bash
# The ablations of configs/ablations.py on one GPU that is there for MINUTES: all at once, in a process each.
#
#     launch/ablate_gpu.sh OUT MINUTES
#     SMALL=1 launch/ablate_gpu.sh OUT 4      # a rehearsal with small sizes, on a CPU, too
#
# 1. Installs what is missing from the folder WHEELS (wheels/, by launch/fetch_wheels.sh), without a registry.
# 2. `gencompositor ablate`: renders the training clips on all cores, trains SEEDS (3) seeds of each ablation in one
#    program, scores them; once per budget of STEPS ("400 900"), the smaller one first. VARIANTS, SIZE (sweep), CLIPS
#    (4096, for training) and OPTIONS, more options of the command, change it.
#
# OUT is complete at any moment: results.tar (per sweep ablation.json, the tables and pictures, and the scores of all
# finished runs) and log.txt, each less than 16 MiB. On the same machine the same command resumes.
set -u -o pipefail

number='^[0-9]*\.?[0-9]+$'
if [[ $# -ne 2 || ! $2 =~ $number ]]; then
    echo "usage: [SMALL=1] [STEPS='N ...'] [SEEDS=N] [VARIANTS=NAME,...] [WHEELS=DIR] [WORK=DIR] $0 OUT MINUTES" >&2
    exit 2
fi
mkdir -p "$1" || exit 2
out=$(cd "$1" && pwd)
cd "$(dirname "$0")/.." || exit 2
seconds=$(awk "BEGIN { print int(60 * $2) }")
left() { echo $((seconds - SECONDS)); }

base=${PYTHON:-python3} wheels=${WHEELS:-wheels} work=${WORK:-runs/ablate}
seeds=${SEEDS:-3} processes=${PROCESSES:-$(nproc)}
read -ra budgets <<<"${STEPS:-400 900}"
# On a GPU four times the config's batch takes little longer, and reading it anew for every step would.
command=(--size "${SIZE:-sweep}" --seeds "$seeds" --config.data.clips="${CLIPS:-4096}" --config.batch_size=32
    --config.data.echo=8)
if [[ -n ${SMALL:-} ]]; then
    read -ra budgets <<<"${STEPS:-12 24}"
    processes=${PROCESSES:-2} VARIANTS=${VARIANTS:-full,no_branch}
    command=(--seeds 2 --clips 4 --config.data.clips=64 --config.batch_size=2 --config.optimizer.warmup=4)
fi
if [[ -n ${VARIANTS:-} ]]; then command+=(--variants "$VARIANTS"); fi
read -ra more <<<"${OPTIONS:-}"
command+=("${more[@]}")
mkdir -p "$work" || exit 2
work=$(cd "$work" && pwd)
export GENCOMPOSITOR_CACHE=${GENCOMPOSITOR_CACHE-$work/cache} SMALL=${SMALL:-}
export XLA_PYTHON_CLIENT_PREALLOCATE=false # several processes share the memory

exec 8>"$work/lock"
if ! flock -w 20 8; then
    echo "$0: an earlier call, or what it started, still works in $work: end it, or pass another WORK" >&2
    exit 1
fi
exec > >(exec 8>&-; trap '' INT TERM; exec tee -a "$out/log.txt") 2>&1
say() { echo "== $(date -u +%H:%M:%S) $*"; }

# Brings OUT up to date.
keep() {
    (
        flock 6
        cd "$work" && find sweep-* -type f ! -path '*/clips/*' ! -path '*/checkpoints-*' ! -path '*/model-*' \
            \( -name '*.json' -o -name '*.csv' -o -name '*.md' -o -name '*.svg' \) -print0 2>/dev/null |
            tar --null -czf results.tar -T - 2>/dev/null &&
            cp results.tar "$out/part" && mv "$out/part" "$out/results.tar"
    ) 6>"$work/keeping"
}
exec 7<> <(:) # a line in this pipe ends the keeper
main=$$ child=''
while ! read -rt 5 -u 7 && kill -0 "$main" 2>/dev/null; do keep; done &
keeper=$!
finish() {
    echo >&7 && wait "$keeper"
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

say "$(left) s left"
python=$work/venv/bin/python
if [[ ! -e $work/venv/ready ]]; then
    # The packages of the Python that is there, which may itself be a virtual environment, stay visible to this one.
    rm -rf "$work/venv"
    "$base" -m venv --without-pip "$work/venv" || exit 2
    "$base" -c 'import os, sys; print(os.getcwd(), *[p for p in sys.path if p.endswith("-packages")], sep="\n")' \
        >"$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/outer.pth"
    "$base" launch/borrowed_requirements.py >"$work/requirements.txt"
    if ! "$python" -m pip install --quiet --disable-pip-version-check --no-compile --no-index --find-links "$wheels" \
        -r "$work/requirements.txt"; then
        say "packages are missing here and in $wheels: fetch them with launch/fetch_wheels.sh"
        exit 2
    fi
    touch "$work/venv/ready"
fi
# 14 programs are compiled at once: that takes longer than choosing the fastest kernels saves.
export XLA_FLAGS="--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false ${XLA_FLAGS:-}"
if ! "$python" -c 'import jax; jax.numpy.zeros(1)' 2>/dev/null; then
    say "this XLA doesn't know $XLA_FLAGS"
    unset XLA_FLAGS
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

# sweep STEPS: all ablations with so many steps, until the time is over.
sweep() {
    say "ablations with $1 steps; $(left) s left"
    timeout -k 5 "$(left)" "$python" -m gencompositor_jax ablate --out "$work/sweep-$1" --steps-per-run "$1" \
        --processes "$processes" "${command[@]}" &
    child=$!
    wait "$child"
    local code=$?
    child=
    return "$code"
}
failed=0 earlier=
for steps in "${budgets[@]}"; do
    # What doesn't depend on the steps is made once.
    if [[ -n $earlier && ! -d $work/sweep-$steps ]]; then
        mkdir "$work/sweep-$steps" && cp -al "$work/sweep-$earlier"/{clips,codec.npz,embedded-*.json,baselines-*.json} "$work/sweep-$steps/"
    fi
    sweep "$steps" || failed=1
    earlier=$steps
done
finish
say "over; $(left) s left"
exit "$failed"
