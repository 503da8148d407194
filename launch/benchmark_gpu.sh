#!/usr/bin/env bash
# Measures everything on one GPU, at full size, with random weights: sampling, training steps, and ours against
# PyTorch. In pieces of less than nine minutes each, saved one by one, for a machine that is only lent.
#
#     launch/benchmark_gpu.sh [OUT]                  all pieces that aren't done yet (OUT: benchmarks/results/gpu)
#     launch/benchmark_gpu.sh OUT sample train       these
#
#     sample       49 frames of 480 x 720 in 20 steps, from pixels to pixels
#     guided       a few steps as with a prompt
#     int8         the same as sample with weights in 8 bits
#     convolutions the VAE's, as 3-D and as 2-D ones
#     train        the training step of all parameters, without an average: what fits one GPU of 139 GiB
#     attention    of the attention's kernels alone, all else frozen in bfloat16
#     lora         of adapters alone
#     torch        benchmarks/gpu_vs_torch.py; call it until it says that nothing is left
#
# OUT gets NAME.json (the last line that a piece printed) and NAME.log; a piece whose JSON is there is left out.
# SMALL=1 runs tiny networks through the same pieces, on a CPU too. PYTHON and LIMIT (seconds) as you like.
set -u -o pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3} limit=${LIMIT:-530} out=${1:-benchmarks/results/gpu}
shift || true
pieces=("$@")
if ((!$#)); then pieces=(sample convolutions train torch guided int8 attention lora torch); fi
mkdir -p "$out"

config=configs/gencompositor_6b.py weights=(--random released) few=4 steps=20 small=()
one=(--config.batch_size=1 --config.optimizer.ema=0)
if [[ -n ${SMALL:-} ]]; then
    config+=:runlocal weights=(--random tiny --size 5x32x48) few=1 steps=2 small=(--small --rounds 1 --steps 1)
fi

# measure NAME COMMAND...: runs a piece unless it is done; its last line becomes NAME.json.
measure() {
    local name=$1 code=0
    shift
    if [[ -s $out/$name.json ]]; then
        echo "$name: done before"
        return 0
    fi
    echo "== $name: $*"
    timeout "$limit" "$python" "$@" 2> >(tee "$out/$name.err" >&2) | tee "$out/$name.log" || code=$?
    if ((code)); then
        echo "$name: failed with code $code (124: out of time); $out/$name.err says why" >&2
        return "$code"
    fi
    tail -n 1 "$out/$name.log" >"$out/$name.json.part" && mv "$out/$name.json.part" "$out/$name.json"
}

sample() { measure "$1" -m gencompositor_jax benchmark --json "${weights[@]}" "${@:2}"; }

train() {
    # All of the GPU but what the driver needs; JAX takes three quarters unless told.
    XLA_PYTHON_CLIENT_MEM_FRACTION=0.95 measure "$1" -m gencompositor_jax benchmark --json --mode train "${@:2}" "${one[@]}"
}

failed=0
for piece in "${pieces[@]}"; do
    case $piece in
    sample) sample sample --steps "$steps" ;;
    guided) sample guided --steps "$few" --guided ;;
    int8) sample int8 --steps "$few" --weights int8 ;;
    convolutions) measure convolutions benchmarks/vae_convolutions.py --json --out "$out/vae_convolutions.json" "${small[@]:0:1}" ;;
    train) train train --config "$config" ;;
    attention) train attention --config "$config" "--config.trainable=blocks/attention/" ;;
    lora) train lora --config "${config%:runlocal}:lora${SMALL:+,runlocal}" ;;
    torch)
        rm -f "$out/torch.json" # it keeps what is done in a file of its own
        measure torch benchmarks/gpu_vs_torch.py --json --minutes 5 --out "$out/gpu_vs_torch.json" "${small[@]}"
        ;;
    *) echo "$0: no piece is called $piece" >&2; exit 2 ;;
    esac || failed=1
done
exit "$failed"
