#!/usr/bin/env bash
# Trains, evaluates and benchmarks on a GPU that is borrowed for MINUTES and may be taken away at any moment.
#
#     launch/borrowed_gpu.sh OUT MINUTES
#     SMALL=1 launch/borrowed_gpu.sh OUT 4      # a rehearsal with small sizes, on a CPU, too
#
# 1. Installs what is missing from the folder WHEELS (wheels/, by launch/fetch_wheels.sh), without a registry.
# 2. Trains CONFIG (configs/tiny.py:linear,gpu) for 60 % of the time. The first tenth, at least 75 seconds, measures
#    the speed, which gives the number of steps; STEPS=N sets it.
# 3. Evaluates the model on held-out clips.
# 4. Runs the measurements of launch/benchmark_gpu.sh until the time is over, the most valuable ones first.
#
# OUT is complete at any moment. It holds five files, each written under another name and then renamed, of less than
# 16 MiB each:
#
#     model.tar        the EMA weights at the last checkpoint: gencompositor compose --checkpoint needs it unpacked
#     evaluation.json  of these weights, by `gencompositor evaluate`
#     results.tar      config, metrics, and figures and logs of the measurements
#     log.txt          appended
#     part             the file that is being written
#
# The same command resumes: training from its last checkpoint in WORK (runs/borrowed), then what is not yet done. On
# another machine, copy OUT there first: training then starts from its weights, with a new schedule, unless it was
# complete.
set -u -o pipefail

largest=$((16 * 1024 * 1024))

# put FILE NAME: copies a file to OUT under its final name, whole or not at all.
put() {
    local size
    size=$(stat -c %s "$1") || return 0
    if ((size >= largest)); then
        say "$2 has $size bytes, at least $largest: not kept"
        return 1
    fi
    cp "$1" "$out/part" && mv "$out/part" "$out/$2"
}

# Brings OUT up to date; one process at a time. A folder that training replaces meanwhile is packed at the next call:
# nothing is removed from it before it has lost its name.
keep() {
    (
        flock 6
        model=$run/model
        if [[ -e $model/model.json && ! $model/model.json -ef $work/kept ]]; then
            if (cd "$model" && tar -cf "$work/model.tar" . && ln -f model.json "$work/packed" && [[ $model -ef . ]]) 2>/dev/null; then
                put "$work/model.tar" model.tar
                mv -f "$work/packed" "$work/kept"
            fi
        fi
        cp -p "$run"/{config.json,metrics.jsonl} "$results" 2>/dev/null
        touch "$work/now"
        if [[ ! -e $out/results.tar || -n $(find "$results" -type f -newer "$work/as_of" -print -quit 2>&1) ]]; then
            if tar -cf "$work/results.tar" -C "$results" . 2>/dev/null; then
                put "$work/results.tar" results.tar && mv "$work/now" "$work/as_of"
            fi
        fi
        if [[ $work/evaluation.json -nt $out/evaluation.json ]]; then put "$work/evaluation.json" evaluation.json; fi
    ) 6>"$work/keeping"
}

options='[STEPS=N] [CONFIG=FILE.py:ARG]' work=runs/borrowed
source "$(dirname "$0")/borrowed_machine.sh"

config=${CONFIG:-configs/tiny.py:linear,gpu} checkpoints_s=40 evaluated=(--clips 64 --steps 4)
training=(--config.checkpoint.model=true --config.validation.every=0 --config.data.workers="$(nproc)")
if [[ -n $SMALL ]]; then
    config=${CONFIG:-configs/tiny.py:linear,runlocal} checkpoints_s=10 evaluated=(--clips 2 --steps 1)
    training=(--config.checkpoint.model=true --config.validation.every=0)
fi
run=$work/run results=$work/results benchmarks=$work/results/benchmarks
mkdir -p "$benchmarks"

# ---- The machine.
say "borrowed for $2 minutes; $(left) s left"
rm -f "$out/part"
if [[ -e $out/results.tar ]]; then tar -xf "$out/results.tar" --skip-old-files -C "$results"; fi
if [[ -e $out/evaluation.json && ! -e $work/evaluation.json ]]; then cp -p "$out/evaluation.json" "$work"; fi
prepare pytorch
keep_on 3
failed=0

# ---- Training.
# model_field EXPRESSION: of the model.json `m` in OUT/model.tar; nothing if there is none.
model_field() {
    tar -xOf "$out/model.tar" ./model.json 2>/dev/null |
        "$python" -c "import json, sys; m = json.load(sys.stdin)['provenance']; print($1)" 2>/dev/null
}

# The step and the steps per second that were last logged.
progress() {
    "$python" -c 'import json, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
print(rows[-1]["step"], [r["steps_per_second"] for r in rows if "steps_per_second" in r][-1])' "$run/metrics.jsonl" 2>/dev/null
}

# train SECONDS OVERRIDES...
train() {
    local time=$1 start=()
    shift
    if [[ -d $work/start ]]; then start=(--config.init="$work/start"); fi
    # The command saves when its minutes are over; that it is ended is for one that hangs.
    within $((time + 45)) "$python" -m gencompositor_jax train --config "$config" --workdir "$run" \
        --minutes "$(awk "BEGIN { print $time / 60 }")" "${training[@]}" "${start[@]}" "$@"
}

train_until=$((seconds * 60 / 100))
# On an H200 the first start takes 50 seconds.
measuring=$((seconds / 10 > 75 ? seconds / 10 : 75))
measuring=$((measuring < train_until / 2 ? measuring : train_until / 2))
done_steps=$(model_field 'm["step"]') wanted=${STEPS:-$(model_field 'm["config"]["steps"]')}
if [[ -n $done_steps && $done_steps -ge $wanted ]]; then
    say "the model in $out has all of its $wanted steps"
else
    if [[ -n $done_steps && ! -d $run/checkpoints && ! -d $work/start ]]; then
        say "training starts from the weights in $out, of step $done_steps"
        mkdir "$work/start.part" && tar -xf "$out/model.tar" -C "$work/start.part" && mv "$work/start.part" "$work/start"
    fi
    steps=${STEPS:-$(cat "$work/steps" 2>/dev/null || echo 0)}
    for ((try = 1; try < 3 && !steps; try++)); do # a second one has compiled programs
        began=$SECONDS
        say 'training, to measure its speed'
        train "$measuring" --config.steps=100000000 --config.checkpoint.every=100000000 || failed=1
        if read -r step rate < <(progress); then
            # The second start takes as long as the first one did, apart from the steps.
            steps=$(awk "BEGIN {
                start = $SECONDS - $began - $step / $rate
                time = $train_until - $SECONDS - (start > 0 ? start : 0)
                print int($step + 0.95 * $rate * (time > 0 ? time : 0)) + 1 }")
            awk "BEGIN { print int($rate * $checkpoints_s) + 1 }" >"$work/every"
            echo "$steps" >"$work/steps.part" && mv "$work/steps.part" "$work/steps"
        fi
    done
    if ((steps)); then
        say "training to step $steps; $(left) s left"
        train $((train_until > SECONDS ? train_until - SECONDS : 0)) --config.steps="$steps" \
            --config.checkpoint.every="$(cat "$work/every" 2>/dev/null || echo 100)" || failed=1
    else
        say "no speed was measured in $measuring s: pass STEPS or more minutes"
        failed=1
    fi
fi
keep

# ---- Evaluation, of the weights in OUT.
of=$("$python" -c 'import json, sys; print(json.load(open(sys.argv[1]))["model"]["trained_steps"])' "$work/evaluation.json" 2>/dev/null)
done_steps=$(model_field 'm["step"]')
if [[ -z $done_steps ]]; then
    say 'there is no model to evaluate'
elif [[ $of == "$done_steps" ]]; then
    say "step $of is evaluated"
else
    say "evaluation of step $done_steps; $(left) s left"
    rm -rf "$work/evaluated" && mkdir "$work/evaluated" && tar -xf "$out/model.tar" -C "$work/evaluated"
    within "$(left)" "$python" -m gencompositor_jax evaluate --checkpoint "$work/evaluated" "${evaluated[@]}" \
        --out "$work/evaluation.json" --overwrite || failed=1
fi
keep

# ---- Measurements.
for name in check sample torch convolutions lora train guided int8 attention memory torch; do
    if (($(left) < 10)); then break; fi
    say "measurement: $name; $(left) s left"
    PYTHON=$python LIMIT=$(left) within "$(left)" launch/benchmark_gpu.sh "$benchmarks" "$name" ||
        (($(left) < 2)) || failed=1 # that the time is over is no failure
done
finish
say "finished; $(left) s left"
exit "$failed"
