#!/usr/bin/env bash
# build.sh [DIR]: a whole Kubernetes, containerd, CoreDNS and Helm from Go modules, and the two small programs of tools/.
# DIR defaults to the cache folder where up.sh and the e2e library look. Cold on two cores about 7 minutes, again: nothing to do.
set -euo pipefail
KUBERNETES=1.36.3 CONTAINERD=2.3.7 COREDNS=1.15.0 HELM=3.22.0
HERE=$(cd "$(dirname "$0")" && pwd)
DIR=$(realpath -m "${1:-${XDG_CACHE_HOME:-$HOME/.cache}/etcd-core-e2e/kubernetes-$KUBERNETES}")

if ! command -v go > /dev/null; then
  echo "Kubernetes $KUBERNETES is built from Go modules, and there is no 'go' on the PATH: install Go 1.26 or later (https://go.dev/dl/)" >&2
  exit 1
fi
mkdir -p "$DIR"
# Two builds at a time would fight over the same names.
exec 9> "$DIR/.lock"; flock 9
# -buildvcs=false: a clone that belongs to another user than root is no reason to fail.
export CGO_ENABLED=0 GOFLAGS=-buildvcs=false

# Built beside its place and renamed, so that an interrupted build leaves nothing half done.
WORK=$(mktemp -d "$DIR/.build.XXXXXX")
trap 'rm -rf "$WORK"' EXIT
step() { # step PROGRAM COMMAND...: runs COMMAND, which puts PROGRAM into WORK, unless DIR has it already
  local program=$1 start=$SECONDS; shift
  [ -x "$DIR/$program" ] && return
  echo "  building $program"
  "$@"
  mv "$WORK/$program" "$DIR/$program"
  echo "  built $program in $((SECONDS - start)) s"
}
module() { GOBIN=$WORK go install -trimpath -ldflags='-s -w' "$1"; }
hyperkube() {
  local version=k8s.io/component-base/version
  grep -q "k8s.io/kubernetes v$KUBERNETES\$" "$HERE/hyperkube/go.mod" || {
    echo "hyperkube/go.mod does not name Kubernetes $KUBERNETES: change both" >&2
    return 1
  }
  go -C "$HERE/hyperkube" build -trimpath -o "$WORK/hyperkube" \
    -ldflags "-s -w -X $version.gitVersion=v$KUBERNETES -X $version.gitMajor=1 -X $version.gitMinor=$(cut -d. -f2 <<< $KUBERNETES)" .
}

step hyperkube hyperkube
for program in kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl; do
  ln -sfn hyperkube "$DIR/$program"
done
for program in containerd containerd-shim-runc-v2 ctr; do
  step $program module "github.com/containerd/containerd/v2/cmd/$program@v$CONTAINERD"
done
step coredns module "github.com/coredns/coredns@v$COREDNS"
step helm module "helm.sh/helm/v3/cmd/helm@v$HELM"
# These are part of this tree, and cost a second.
go -C "$HERE/tools" build -trimpath -o "$WORK/" ./pack ./pause
mv "$WORK/pack" "$WORK/pause" "$DIR/"
echo "Kubernetes $KUBERNETES, containerd $CONTAINERD, CoreDNS $COREDNS and Helm $HELM are in $DIR"
