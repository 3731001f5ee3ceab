#!/bin/bash
# build.sh [DIR]: MinIO, an S3 server to test backups with, from its Go module.
# DIR defaults to the cache folder where the e2e library looks for it. Cold about 2 min on 2 cores, again: nothing to do.
set -euo pipefail
VERSION=0.0.0-20260212201848-7aac2a2c5b7c
DIR=$(realpath -m "${1:-${XDG_CACHE_HOME:-$HOME/.cache}/etcd-core-e2e/minio-$VERSION}")

if [ -x "$DIR/minio" ]; then
  echo "MinIO $VERSION is already in $DIR"
  exit 0
fi
if ! command -v go > /dev/null; then
  echo "MinIO is built from its Go module, and there is no 'go' on the PATH: install Go 1.26 or later (https://go.dev/dl/)" >&2
  exit 1
fi

echo "building MinIO $VERSION into $DIR (about 2 min the first time)"
mkdir -p "$DIR"
# Built beside the final place and renamed, so that an interrupted build leaves nothing half done.
WORK=$(mktemp -d "$DIR/.build.XXXXXX")
trap 'rm -rf "$WORK"' EXIT
CGO_ENABLED=0 GOBIN=$WORK go install -trimpath -ldflags "-s -w" "github.com/minio/minio@v$VERSION"
mv "$WORK/minio" "$DIR/minio"
echo "built MinIO $VERSION"
