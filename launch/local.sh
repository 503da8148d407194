#!/usr/bin/env bash
# Trains in several processes on this machine, joined over loopback, each with virtual CPU devices: the code paths
# of a cluster.
#
#     launch/local.sh PROCESSES DEVICES --config ... --workdir ...
#     launch/local.sh 2 4 --config configs/gencompositor_6b.py:runlocal --workdir runs/local
#     RESTARTS=3 launch/local.sh 2 4 --config configs/tiny.py --workdir runs/local --config.mesh.fsdp=8
#     launch/local.sh 2 4 -- python my_script.py         # another command, with the three flags appended
#
# If one process fails, all end, with its exit code. RESTARTS=K restarts up to K times (not after exit code 2, wrong
# input); training resumes from its last checkpoint. Ctrl-C saves and stops; a second one stops at once.
# Each line of output starts with the number of its process; only process 0 prints progress.
set -euo pipefail

number='^[1-9][0-9]*$'
if [[ $# -lt 3 || ! $1 =~ $number || ! $2 =~ $number ]]; then
    echo "usage: [RESTARTS=K] $0 PROCESSES DEVICES [--config ... --workdir ... | -- COMMAND ...]" >&2
    exit 2
fi
processes=$1 devices=$2
shift 2
python=${PYTHON:-python3} restarts=${RESTARTS:-0} grace=${GRACE:-5}
if [[ $1 == -- ]]; then
    shift
    command=("$@")
else
    command=("$python" -m gencompositor_jax train "$@")
fi
export JAX_PLATFORMS=cpu PYTHONUNBUFFERED=1
export XLA_FLAGS="${XLA_FLAGS:-} --xla_force_host_platform_device_count=$devices"

pids=() stopping=0
set -m # each process in a group of its own, with the data workers that it starts

end_all() {
    for pid in "${pids[@]}"; do kill -KILL -- "-$pid" 2>/dev/null || true; done
}

stop() {
    if ((stopping)); then end_all; fi
    stopping=1
    for pid in "${pids[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
}
trap stop INT TERM
trap end_all EXIT

# Runs all processes once. Sets `code` to that of the first one to fail, or 0.
run_all() {
    local i port running=() deadline=
    port=$("$python" -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
    pids=() code=0
    for ((i = 0; i < processes; i++)); do
        "${command[@]}" --coordinator "127.0.0.1:$port" --processes "$processes" --process "$i" \
            > >(trap '' INT TERM; exec sed -u "s/^/$i| /") 2>&1 &
        pids+=($!)
    done
    running=("${!pids[@]}")
    while ((${#running[@]})); do
        sleep 0.2
        for i in "${running[@]}"; do
            if kill -0 "${pids[i]}" 2>/dev/null; then continue; fi
            local own=0
            wait "${pids[i]}" || own=$?
            unset "running[$i]"
            if ((own && !code)); then
                code=$own deadline=$((SECONDS + grace))
                echo "$0: process $i ended with code $own; ending the others" >&3
            fi
        done
        if [[ -n $deadline ]] && ((SECONDS >= deadline)); then end_all; fi
    done 3>&2 2>/dev/null # bash would print the command of a killed process
    end_all # workers whose process was killed
}

for ((try = 1; ; try++)); do
    run_all
    if ((code == 0 || code == 2 || stopping || try > restarts)); then exit "$code"; fi
    echo "$0: restarting ($try of $restarts)" >&2
done
