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

options="[STEPS='N ...'] [SEEDS=N] [VARIANTS=NAME,...]" work=runs/ablate
source "$(dirname "$0")/borrowed_machine.sh"

seeds=${SEEDS:-3} processes=${PROCESSES:-$(nproc)}
read -ra budgets <<<"${STEPS:-400 900}"
# On a GPU four times the config's batch takes little longer, and reading it anew for every step would.
command=(--size "${SIZE:-sweep}" --seeds "$seeds" --config.data.clips="${CLIPS:-4096}" --config.batch_size=32
    --config.data.echo=8)
if [[ -n $SMALL ]]; then
    read -ra budgets <<<"${STEPS:-12 24}"
    processes=${PROCESSES:-2} VARIANTS=${VARIANTS:-full,no_branch}
    command=(--seeds 2 --clips 4 --config.data.clips=64 --config.batch_size=2 --config.optimizer.warmup=4)
fi
if [[ -n ${VARIANTS:-} ]]; then command+=(--variants "$VARIANTS"); fi
read -ra more <<<"${OPTIONS:-}"
command+=("${more[@]}")
export XLA_PYTHON_CLIENT_PREALLOCATE=false # several processes share the memory

say "$(left) s left"
prepare
keep_on 5
# 14 programs are compiled at once: that takes longer than choosing the fastest kernels saves.
export XLA_FLAGS="--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false ${XLA_FLAGS:-}"
if ! "$python" -c 'import jax; jax.numpy.zeros(1)' 2>/dev/null; then
    say "this XLA doesn't know $XLA_FLAGS"
    unset XLA_FLAGS
fi

# sweep STEPS: all ablations with so many steps, until the time is over.
sweep() {
    say "ablations with $1 steps; $(left) s left"
    within "$(left)" "$python" -m gencompositor_jax ablate --out "$work/sweep-$1" --steps-per-run "$1" \
        --processes "$processes" "${command[@]}"
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
