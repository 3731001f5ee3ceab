#!/usr/bin/env bash
# up.sh STATE [NODES]: a real Kubernetes in namespaces of its own, until it is killed or down.sh ends it. Needs root.
# It has its own network and mounts, and needs no container engine, registry or network.
#   BIN      where build.sh put its programs
#   STORAGE  the API server's storage: `ours` (default: PRODUCT/etcd) or `stock` (STOCK/etcd)
# Images: the archives STATE/images/*.tar are imported into every node (images.sh packs them).
# STATE/ready appears when every node is Ready; enter by in.sh. A folder that has been used starts empty again.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
STATE=$(realpath -m "$1") NODES=${2:-3}
export BIN=${BIN:-${XDG_CACHE_HOME:-$HOME/.cache}/etcd-core-e2e/kubernetes-1.36.3}
export PATH=$PATH:/usr/sbin:/sbin
. "$HERE/cgroups.sh"

[ "$(id -u)" -eq 0 ] || { echo "up.sh makes namespaces and mounts: run it as root" >&2; exit 1; }
case ${STORAGE:-ours} in
  ours) ETCD=${PRODUCT:?}/etcd ;;
  stock) ETCD=${STOCK:?}/etcd ;;
  *) echo "STORAGE=$STORAGE: it is \`ours\` or \`stock\`" >&2; exit 1 ;;
esac
[ -x "$ETCD" ] || { echo "$ETCD, the API server's storage, is missing" >&2; exit 1; }

mkdir -p "$STATE/images"; chmod 700 "$STATE"
# Two at a time in one folder would share its files and control groups.
exec 9> "$STATE/lock"
flock -n 9 || { echo "a Kubernetes runs in $STATE already" >&2; exit 1; }
rm -rf --one-file-system "$STATE"/{pki,log,etcd,volumes,kubectl,node-*,ready,admin.kubeconfig,Corefile,audit.yaml,hold}
mkdir -p "$STATE"/{pki,log,volumes,hold}
GROUP=$(group_of "$STATE")
remove_cgroups "$GROUP" # of a run that was cut short
for i in $(seq "$NODES"); do make_cgroup "$GROUP/node-$i"; done
# Three kubelets and containerds watch many files, and Debian's 128 are for all of root's programs. The one thing set on the host.
INSTANCES=/proc/sys/fs/inotify/max_user_instances
[ "$(cat $INSTANCES)" -ge 512 ] || echo 512 > $INSTANCES || echo "$INSTANCES is low and cannot be raised: kubelets may fail" >&2
echo "$BIN" > "$STATE/bin"
echo $$ > "$STATE/pid"
export ETCD GROUP
# --kill-child: with this process the first one inside ends, and with that one the kernel ends all the others.
exec unshare --net --mount --pid --uts --ipc --fork --mount-proc --kill-child "$HERE/inside.sh" "$STATE" "$NODES"
