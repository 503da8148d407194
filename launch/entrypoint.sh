#!/usr/bin/env bash
# Runs a command in a container. Told to go away (SIGTERM: a node is drained or taken back), training saves and
# ends with 0, which Kubernetes would take for finished; here that becomes 143, so that the JobSet starts again.
#
#     launch/entrypoint.sh gencompositor train --config ... --workdir ...
set -u

# The exit code of a child. Not `wait` alone: a signal that comes just before it would be heard after it.
await() {
    while kill -0 "$1" 2>/dev/null; do sleep 0.5; done
    wait "$1"
}

told=
"$@" &
child=$!
trap 'told=1; kill -TERM "$child" 2>/dev/null' TERM INT
await "$child"
code=$?
if [[ -n $told && $code -eq 0 ]]; then code=143; fi
exit "$code"
