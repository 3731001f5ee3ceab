#!/usr/bin/env bash
# down.sh STATE...: ends the Kubernetes that up.sh keeps in each STATE, and removes what outlives its namespaces: control groups.
# The volumes, the API server's storage and the logs stay in STATE. Nothing running there is fine too.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
. "$HERE/cgroups.sh"

for STATE in "$@"; do
  STATE=$(realpath -m "$STATE")
  if [ -e "$STATE/pid" ]; then
    OUTER=$(cat "$STATE/pid")
    # A number may have been given to another program since: only an unshare that runs up.sh for this very folder is meant.
    if [ -e "/proc/$OUTER" ] && tr "\0" "\n" < "/proc/$OUTER/cmdline" | grep -xF "$STATE" > /dev/null; then
      # The first process of the PID namespace: with it the kernel ends all the others.
      for inner in $(pgrep -P "$OUTER"); do kill -9 "$inner" 2> /dev/null || true; done
      tail --pid="$OUTER" -f /dev/null
    fi
  fi
  rm -f "$STATE/pid" "$STATE/ready"
  remove_cgroups "$(group_of "$STATE")"
done
