#!/usr/bin/env bash
# load.sh STATE: imports the archives STATE/images/*.tar into the nodes of a Kubernetes that runs already.
set -euo pipefail
STATE=$(realpath "$1")
HERE=$(cd "$(dirname "$0")" && pwd)
for node in "$STATE"/node-*/; do
  for image in "$STATE"/images/*.tar; do
    # Unchanged since it was imported: nothing to do.
    [ "$image" -nt "$node/loaded" ] || continue
    "$HERE/in.sh" "$STATE" nsenter -t "$(cat "$node/pid")" -n -m -u \
      ctr -a /run/containerd/containerd.sock -n k8s.io images import "$image" > /dev/null
  done
  touch "$node/loaded"
done
