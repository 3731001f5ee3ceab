#!/bin/bash
# build.sh [DIR]: stock etcd, etcdctl and etcdutl from Go modules, to compare with and to interoperate with.
# DIR defaults to the cache folder where the e2e library looks for them. Cold about 40 s on 2 cores, again: nothing to do.
set -euo pipefail
VERSION=3.7.3
HERE=$(cd "$(dirname "$0")" && pwd)
DIR=$(realpath -m "${1:-${XDG_CACHE_HOME:-$HOME/.cache}/etcd-core-e2e/stock-$VERSION}")

complete() {
  local tool
  for tool in etcd etcdctl etcdutl; do [ -x "$DIR/$tool" ] || return 1; done
}

if complete; then
  echo "stock etcd $VERSION is already in $DIR"
  exit 0
fi
if ! command -v go > /dev/null; then
  echo "stock etcd $VERSION is built from Go modules, and there is no 'go' on the PATH: install Go 1.26 or later (https://go.dev/dl/)" >&2
  exit 1
fi

echo "building stock etcd $VERSION into $DIR (about 40 s the first time)"
mkdir -p "$DIR"
# Built beside the final place and renamed, so that an interrupted build leaves nothing half done.
WORK=$(mktemp -d "$DIR/.build.XXXXXX")
trap 'rm -rf "$WORK"' EXIT
export CGO_ENABLED=0
cd "$HERE"
# The modules refuse `go install` (they carry replace directives); this folder is a module of tools that names them.
go build -trimpath -o "$WORK/etcd" go.etcd.io/etcd/server/v3
go build -trimpath -o "$WORK/etcdctl" go.etcd.io/etcd/etcdctl/v3
go build -trimpath -o "$WORK/etcdutl" go.etcd.io/etcd/etcdutl/v3
BUILT=$("$WORK/etcd" --version | sed -n 's/^etcd Version: //p')
if [ "$BUILT" != "$VERSION" ]; then
  echo "go.mod names etcd $BUILT, this script expects $VERSION: change both" >&2
  exit 1
fi
mv "$WORK/etcd" "$WORK/etcdctl" "$WORK/etcdutl" "$DIR/"
echo "built etcd, etcdctl and etcdutl $VERSION"
