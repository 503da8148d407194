#!/usr/bin/env bash
# Runs a command in a container. On SIGTERM (a node is drained or preempted) training saves and exits with 0, which
# Kubernetes takes for success; this script then exits with 143, so that the JobSet restarts.
#
#     launch/entrypoint.sh gencompositor train --config ... --workdir ...
set -u

# The exit code of a child. With `wait` alone a signal just before it would be handled only after it.
await() {
    while kill -0 "$1" 2>/dev/null; do sleep 0.5; done
    wait "$1"
}

terminated=
"$@" &
child=$!
trap 'terminated=1; kill -TERM "$child" 2>/dev/null' TERM INT
await "$child"
code=$?
if [[ -n $terminated && $code -eq 0 ]]; then code=143; fi
exit "$code"
