#!/usr/bin/env bash
# in.sh STATE COMMAND...: runs COMMAND inside the namespaces of the Kubernetes that up.sh keeps in STATE.
set -euo pipefail
STATE=$(realpath "$1"); shift
[ -e "$STATE/ready" ] && PID=$(pgrep -P "$(cat "$STATE/pid")" | head -1) && [ -n "$PID" ] || {
  echo "no Kubernetes runs in $STATE" >&2
  exit 1
}
exec nsenter -t "$PID" -n -m -p -u -i --wdns="$PWD" env PATH="$(cat "$STATE/bin"):$PATH" KUBECONFIG="$STATE/admin.kubeconfig" "$@"
