#!/usr/bin/env bash
# Trains on all workers of a Cloud TPU VM slice, from your machine, by gcloud. The workers find each other.
#
#     launch/tpu_vm.sh NAME ZONE install        # this checkout, as committed, to every worker
#     launch/tpu_vm.sh NAME ZONE --config configs/gencompositor_6b.py --workdir /mnt/shared/runs/6b \
#         --config.init=/mnt/shared/released --config.data.path=/mnt/shared/VideoComp
#     launch/tpu_vm.sh NAME ZONE stop           # saves and stops
#
# All workers must see the folders: mount Filestore or a bucket (gcsfuse) at the same path. RESTARTS=K restarts up
# to K times after a failure; training resumes from its last checkpoint. A preempted spot slice must be created
# again first.
set -euo pipefail

if [[ $# -lt 3 ]]; then
    echo "usage: [RESTARTS=K] $0 NAME ZONE install | stop | --config ... --workdir ..." >&2
    exit 2
fi
name=$1 zone=$2
shift 2
folder=gencompositor-jax restarts=${RESTARTS:-0}

everywhere() {
    gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all --command="$1"
}

case $1 in
install)
    archive=$(mktemp -d)/$folder.tar.gz
    git -C "$(dirname "$0")/.." archive --format=tar.gz --output="$archive" HEAD
    gcloud compute tpus tpu-vm scp "$archive" "$name:$folder.tar.gz" --zone="$zone" --worker=all
    # The Python of the image is too old; uv installs a newer one.
    everywhere "mkdir -p $folder && tar -xzf $folder.tar.gz -C $folder && cd $folder \
        && python3 -m pip install --quiet --user uv && PATH=\$HOME/.local/bin:\$PATH \
        && uv venv --quiet --allow-existing --python 3.12 .venv \
        && uv pip install --quiet --python .venv/bin/python -c constraints.txt -e '.[all,tpu]'"
    ;;
stop)
    everywhere "pkill -TERM -u \$USER -f '[b]in/gencompositor train'" # the brackets keep it from matching itself
    ;;
*)
    command="cd $folder && exec .venv/bin/gencompositor train $(printf '%q ' "$@")"
    for ((try = 1; ; try++)); do
        code=0
        everywhere "$command" || code=$?
        if ((code == 0 || code == 2 || try > restarts)); then exit "$code"; fi
        echo "$0: code $code: restarting ($try of $restarts)" >&2
        sleep 60 # until the remaining processes have ended, too
    done
    ;;
esac
