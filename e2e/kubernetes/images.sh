#!/usr/bin/env bash
# images.sh DIR: packs the images a node needs into DIR, as archives that up.sh gives to every node. DIR/tag is the tag of ours.
# BIN: where build.sh put its programs. STOCK: where e2e/stock/build.sh put its. PRODUCT: folder with our etcd, etcdutl and etcd-operator.
set -euo pipefail
DIR=$1; : "${BIN:?}" "${STOCK:?}" "${PRODUCT:?}"
mkdir -p "$DIR"
B=/usr/local/bin
WORK=$(mktemp -d); trap 'rm -rf "$WORK"' EXIT

[ -e "$DIR/pause.tar" ] || "$BIN/pack" "$DIR/pause.tar" localhost/pause:1 /pause "/pause=$BIN/pause"
# By the name the samples use, so that nothing is pulled.
[ -e "$DIR/stock.tar" ] ||
  "$BIN/pack" "$DIR/stock.tar" localhost/etcd-development/etcd:v3.7.3 $B/etcd "$B/etcd=$STOCK/etcd" "$B/etcdctl=$STOCK/etcdctl"

# A tag that says what is inside: other programs, other tag, and the operator is rolled.
TAG=dev-$(cat "$PRODUCT/etcd" "$PRODUCT/etcdutl" "$PRODUCT/etcd-operator" | sha256sum | head -c 12)
if [ "$(cat "$DIR/tag" 2> /dev/null)" = "$TAG" ] && [ -e "$DIR/etcd-core.tar" ]; then
  echo "   localhost/etcd-core:$TAG is packed already"
  exit 0
fi
for program in etcd etcdutl etcd-operator; do
  if ldd "$PRODUCT/$program" 2> /dev/null | grep -q '=>'; then
    echo "$PRODUCT/$program is not linked statically, an image FROM scratch cannot run it: make build" >&2
    exit 1
  fi
  # Symbols for a debugger are not wanted on every node.
  strip -o "$WORK/$program" "$PRODUCT/$program" 2> /dev/null || cp "$PRODUCT/$program" "$WORK/$program"
done
"$BIN/pack" "$DIR/etcd-core.tar" "localhost/etcd-core:$TAG" $B/etcd "$B/etcd=$WORK/etcd" "$B/etcdutl=$WORK/etcdutl" "$B/etcd-operator=$WORK/etcd-operator"
echo "$TAG" > "$DIR/tag"
echo "   localhost/etcd-core:$TAG, $(stat -c %s "$DIR/etcd-core.tar" | numfmt --to=iec)"
