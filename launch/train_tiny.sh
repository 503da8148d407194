#!/bin/sh
# Trains the embedded model on one GPU, in pieces: each call goes on for MINUTES (9 unless told) from where the
# last one was saved, so it suits machines that are only lent for a while.
#
#     sh launch/train_tiny.sh [WORKDIR]
#
# WORKDIR/model is a checkpoint at any time: gencompositor compose --checkpoint WORKDIR/model ...
# To ship it, replace gencompositor_jax/weights/tiny with it and run benchmarks/heldout.py.
set -eu
cd "$(dirname "$0")/.."
exec "${PYTHON:-python3}" -m gencompositor_jax train --config configs/tiny.py:gpu \
    --workdir "${1:-runs/tiny}" --minutes "${MINUTES:-9}"
