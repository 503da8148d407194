#!/bin/sh
# Trains the preset `small` on one GPU. Each call runs for MINUTES (default 9) and resumes from the last checkpoint,
# for machines that are available for a limited time.
#
#     sh launch/train_tiny.sh [WORKDIR]
#
# Each call exports WORKDIR/model: gencompositor compose --checkpoint WORKDIR/model ...
# To embed it, replace gencompositor_jax/weights/embedded and run benchmarks/heldout.py.
set -eu
cd "$(dirname "$0")/.."
exec "${PYTHON:-python3}" -m gencompositor_jax train --config configs/tiny.py:gpu \
    --workdir "${1:-runs/tiny}" --minutes "${MINUTES:-9}"
