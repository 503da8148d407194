#!/usr/bin/env bash
# Measures sampling, training steps and PyTorch on one GPU, at full size with random weights. Each measurement takes
# less than nine minutes and is saved by itself, for machines that are available for a limited time.
#
#     launch/benchmark_gpu.sh [OUT]                  all measurements not yet in OUT (benchmarks/results/gpu)
#     launch/benchmark_gpu.sh OUT sample train       only these
#
#     check        whether what runs on GPUs alone is right: cuDNN's attention, the VAE's convolutions
#     sample       49 frames of 480 x 720 in 20 steps, from pixels to pixels
#     guided       a few steps with guidance, as with a prompt
#     int8         `sample` with 8-bit weights
#     convolutions the VAE's convolutions, as 3-D and as 2-D ones
#     train        the training step of all parameters, without EMA: this fits one GPU of 139 GiB
#     attention    the training step of the attention's kernels alone, all else frozen in bfloat16
#     lora         the training step of low-rank adapters alone
#     memory       what attention allocates, by number of tokens; nothing is executed
#     torch        benchmarks/gpu_vs_torch.py; repeat until it reports that nothing is left
#
# OUT gets NAME.json (the last line that a measurement prints) and NAME.log; one whose JSON exists is skipped.
# SMALL=1 runs tiny networks through the same code, also on a CPU. Set PYTHON, LIMIT (seconds) and ROUNDS
# (processes of each side in `torch`, 2) if necessary.
set -u -o pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3} limit=${LIMIT:-530} out=${1:-benchmarks/results/gpu}
shift || true
names=("$@")
if ((!$#)); then names=(check sample convolutions train torch guided int8 attention lora memory torch); fi
mkdir -p "$out"

config=configs/gencompositor_6b.py weights=(--random released) few=4 steps=20 small=() device=(--gpu) pairs=(--rounds "${ROUNDS:-2}")
one=(--config.batch_size=1 --config.optimizer.ema=0)
if [[ -n ${SMALL:-} ]]; then
    config+=:runlocal weights=(--random tiny --size 5x32x48) few=1 steps=2 small=(--small --rounds 1 --steps 1) pairs=() device=(--tokens 256)
fi

# measure NAME COMMAND...: runs a measurement unless it is done, and writes its last line to NAME.json.
measure() {
    local name=$1 code=0
    shift
    if [[ -s $out/$name.json ]]; then
        echo "$name: already measured"
        return 0
    fi
    echo "== $name: $*"
    timeout "$limit" "$python" "$@" 2> >(tee "$out/$name.err" >&2) | tee "$out/$name.log" || code=$?
    if ((code)); then
        echo "$name: failed with code $code (124: time limit); see $out/$name.err" >&2
        return "$code"
    fi
    tail -n 1 "$out/$name.log" >"$out/$name.json.part" && mv "$out/$name.json.part" "$out/$name.json"
}

sample() { measure "$1" -m gencompositor_jax benchmark --json "${weights[@]}" "${@:2}"; }

train() {
    # All memory except what the driver needs; the default of JAX is three quarters.
    XLA_PYTHON_CLIENT_MEM_FRACTION=0.95 measure "$1" -m gencompositor_jax benchmark --json --mode train "${@:2}" "${one[@]}"
}

failed=0
for name in "${names[@]}"; do
    case $name in
    check) measure check benchmarks/gpu_check.py --json --out "$out/gpu_check.json" "${small[@]:0:1}" ;;
    sample) sample sample --steps "$steps" ;;
    guided) sample guided --steps "$few" --guided ;;
    int8) sample int8 --steps "$few" --weights int8 ;;
    convolutions) measure convolutions benchmarks/vae_convolutions.py --json --out "$out/vae_convolutions.json" "${small[@]:0:1}" ;;
    train) train train --config "$config" ;;
    attention) train attention --config "$config" "--config.trainable=blocks/attention/" ;;
    lora) train lora --config "${config%:runlocal}:lora${SMALL:+,runlocal}" ;;
    memory) measure memory benchmarks/attention_memory.py --json "${device[@]}" --out "$out/attention_memory.json" ;;
    torch)
        rm -f "$out/torch.json" # it stores its progress in another file
        measure torch benchmarks/gpu_vs_torch.py --json --minutes 5 "${pairs[@]}" --out "$out/gpu_vs_torch.json" "${small[@]}"
        ;;
    *) echo "$0: unknown measurement $name" >&2; exit 2 ;;
    esac || failed=1
done
exit "$failed"
