#!/usr/bin/env bash
# images.sh DIR: packs the images a node needs into DIR, as archives that up.sh gives to every node.
# BIN: where build.sh put its programs. STOCK: where e2e/stock/build.sh put its. PRODUCT: folder with our etcd and etcd-operator.
set -euo pipefail
DIR=$1; : "${BIN:?}" "${STOCK:?}" "${PRODUCT:?}"
mkdir -p "$DIR"
B=/usr/local/bin
WORK=$(mktemp -d); trap 'rm -rf "$WORK"' EXIT

for program in etcd etcd-operator; do
  if ldd "$PRODUCT/$program" 2> /dev/null | grep -q '=>'; then
    echo "$PRODUCT/$program is not linked statically, an image FROM scratch cannot run it: make build" >&2
    exit 1
  fi
  # Symbols for a debugger are not wanted on every node. Who has no strip has bigger images.
  strip -o "$WORK/$program" "$PRODUCT/$program" 2> /dev/null || cp "$PRODUCT/$program" "$WORK/$program"
done
"$BIN/pack" "$DIR/pause.tar" localhost/pause:1 /pause "/pause=$BIN/pause"
"$BIN/pack" "$DIR/etcd-core.tar" localhost/etcd-core:dev $B/etcd "$B/etcd=$WORK/etcd" "$B/etcd-operator=$WORK/etcd-operator"
"$BIN/pack" "$DIR/stock-etcd.tar" localhost/stock-etcd:v3.7.3 $B/etcd "$B/etcd=$STOCK/etcd" "$B/etcdctl=$STOCK/etcdctl"
