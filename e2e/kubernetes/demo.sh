#!/usr/bin/env bash
# demo.sh [up|shell|down]: what `make demo`, `make demo-shell` and `make demo-down` do. DEMO_STATE: where its Kubernetes lives.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
REPO=$(cd "$HERE/../.." && pwd)
: "${PRODUCT:?is set by make}" "${BIN:?}" "${STOCK:?}"
export PRODUCT BIN STOCK
STATE=${DEMO_STATE:-/var/lib/etcd-core-e2e/demo}
SYSTEM=etcd-system
cd "$REPO"

say() { printf '%s\n' "$@"; }
# A step that fails ends the demo, by `set -e`; the trap then says which one it was.
STEP=
trap 'status=$?; [ $status -eq 0 ] || [ -z "$STEP" ] || printf "   failed: %s\n" "$STEP" >&2; exit $status' EXIT
step() { # step WHAT COMMAND...
  local start=$SECONDS
  STEP=$1; shift
  printf '\n== %s\n' "$STEP"
  "$@"
  printf '   %d s\n' $((SECONDS - start))
  STEP=
}

# Inside the demo's own Kubernetes, or with the one that KUBECONFIG names.
in_cluster() {
  if [ -n "$OWN" ]; then "$HERE/in.sh" "$STATE" env PATH="$BIN:$STOCK:$PATH" "$@"
  else PATH="$PATH:$BIN:$STOCK" "$@"; fi
}

without_root() {
  say "The demo starts a Kubernetes in namespaces of its own, and only root may make those:" "" \
    "    sudo -E env PATH=\"\$PATH\" make demo" "" \
    "What works without root:" \
    "    KUBECONFIG=~/.kube/config make demo    the same on a Kubernetes of yours" \
    "    cargo run --release -p etcd-server     a server for etcdctl on localhost:2379" \
    "    make unit                              the tests that need no root"
  exit 1
}

running() { "$HERE/in.sh" "$STATE" true 2> /dev/null; }

start_kubernetes() {
  if running; then
    say "   it runs already"
    "$HERE/load.sh" "$STATE"
    return
  fi
  "$HERE/down.sh" "$STATE"
  # The clusters that its backups are of are gone.
  rm -rf --one-file-system "$STATE/minio"
  setsid "$HERE/up.sh" "$STATE" 3 > "$STATE/up.log" 2>&1 < /dev/null &
  local up=$!
  until running; do
    kill -0 $up 2> /dev/null || { cat "$STATE/up.log" >&2; say "logs: $STATE/log" >&2; return 1; }
    sleep 0.2
  done
  in_cluster kubectl get nodes -o wide
}

pack_images() { mkdir -p "$STATE"; "$HERE/images.sh" "$STATE/images"; }

install_operator() {
  local values=()
  [ -z "$OWN" ] || values=(--set image.repository=localhost/etcd-core --set "image.tag=$(cat "$STATE/images/tag")")
  # IMAGE=registry/name:tag: for a Kubernetes that pulls.
  [ -z "${IMAGE:-}" ] || values=(--set "image.repository=${IMAGE%:*}" --set "image.tag=${IMAGE##*:}")
  # Helm remarks on the link to crds/ at every run.
  in_cluster helm upgrade --install etcd-operator charts/etcd-operator --namespace $SYSTEM --create-namespace \
    --wait --timeout 3m "${values[@]}" 2> >(grep -v 'found symbolic link' >&2) | grep -E '^(NAME|STATUS|REVISION)'
  in_cluster kubectl -n $SYSTEM get deployment,pods
}

apply_samples() { in_cluster kubectl apply -f config/samples/one.yaml -f config/samples/three.yaml; }

wait_ready() {
  in_cluster kubectl wait --for=condition=Ready etcdcluster/one etcdcluster/three --timeout=5m
  in_cluster kubectl get etcdcluster
  in_cluster kubectl get pods -l etcd-core.io/cluster=three -o wide
}

# etcdctl CLUSTER "COMMAND..."...: through the API server, to the Service for clients: works alike in our Kubernetes and in any
# other. What clients show and believe is in a Secret.
etcdctl() {
  in_cluster bash -euo pipefail -c '
    cluster=$1; shift
    bundle=$(mktemp -d)
    trap "rm -rf $bundle" EXIT
    for file in ca.crt tls.crt tls.key; do
      kubectl get secret $cluster-client -o go-template="{{index .data \"$file\" | base64decode}}" > "$bundle/$file"
    done
    export ETCDCTL_CACERT=$bundle/ca.crt ETCDCTL_CERT=$bundle/tls.crt ETCDCTL_KEY=$bundle/tls.key
    exec 3< <(exec kubectl port-forward service/$cluster-client :2379 2>&1)
    forward=$!
    trap "kill $forward; rm -rf $bundle" EXIT
    read -r line <&3
    [[ $line =~ 127\.0\.0\.1:([0-9]+) ]] || { echo "$line" >&2; exit 1; }
    export ETCDCTL_ENDPOINTS=https://127.0.0.1:${BASH_REMATCH[1]}
    for command; do
      echo "   \$ etcdctl $command"
      eval "command etcdctl $command"
    done
  ' "etcdctl" "$@"
}

write_and_read() {
  etcdctl three "put greeting 'hello from $(hostname)'" "get greeting" "member list -w table" "endpoint status -w table"
}

start_store() { "$HERE/store.sh" "$STATE"; }

# The sample's schedule is for every night; who watches a demo would rather not wait for it.
back_up() {
  in_cluster kubectl apply -f config/samples/backup-schedule.yaml
  in_cluster kubectl patch etcdbackupschedule three-nightly --type merge --patch '{"spec": {"schedule": "* * * * *"}}'
  until [ -n "$(in_cluster kubectl get etcdbackup -l etcd-core.io/schedule=three-nightly -o name)" ]; do sleep 0.5; done
  in_cluster kubectl wait --for=condition=Ready --timeout=5m \
    "$(in_cluster kubectl get etcdbackup -l etcd-core.io/schedule=three-nightly -o name | head -1)"
  in_cluster kubectl get etcdbackup,etcdbackupschedule
}

destroy() {
  in_cluster kubectl delete etcdbackupschedule three-nightly --wait
  in_cluster kubectl delete etcdcluster three --wait
  in_cluster kubectl delete pvc -l etcd-core.io/cluster=three --wait
}

restore() {
  in_cluster kubectl apply -f config/samples/restored.yaml
  in_cluster kubectl wait --for=condition=Ready etcdcluster/restored --timeout=5m
  in_cluster kubectl get etcdcluster restored
  etcdctl restored "get greeting"
}

up() {
  [ -z "$OWN" ] || [ "$(id -u)" -eq 0 ] || without_root
  command -v cargo > /dev/null || { say "there is no 'cargo' on the PATH: https://rustup.rs" >&2; exit 1; }
  command -v go > /dev/null || { say "there is no 'go' on the PATH: https://go.dev/dl/, 1.26 or later" >&2; exit 1; }
  if [ -n "$OWN" ]; then
    step "Debian packages that are missing" make -s packages
    step "Our etcd and the operator (the first time some minutes)" make -s build
    step "Stock etcd, for its etcdctl and to compare" make -s stock
    step "Kubernetes from Go modules (the first time about 7 minutes)" make -s kubernetes
    step "MinIO, an S3 server for backups (the first time about 2 minutes)" make -s minio
    step "Images, without a container engine" pack_images
    step "A Kubernetes of three nodes; its API server stores everything in our etcd" start_kubernetes
  else
    say "KUBECONFIG is set: the demo uses that Kubernetes, and the image ${IMAGE:-of the chart (IMAGE=name:tag for another)}"
    step "kubectl, helm and stock etcdctl" bash -euc '{ command -v kubectl && command -v helm; } || make -s kubernetes; make -s stock'
  fi
  step "The operator, by its Helm chart" install_operator
  step "config/samples: a cluster of one and a cluster of three" apply_samples
  step "They become ready" wait_ready
  step "A write and a read with stock etcdctl" write_and_read
  if [ -z "$OWN" ]; then
    say "" "Backups need a bucket: config/samples/backup-schedule.yaml has the places to fill in. Without KUBECONFIG the demo shows them."
  elif in_cluster kubectl get etcdcluster restored > /dev/null 2>&1; then
    say "" "The cluster 'restored' is there: backup and restore were shown before."
  else
    step "An S3 server: MinIO" start_store
    step "config/samples/backup-schedule.yaml, every minute: until a backup is stored, and proven by restoring it" back_up
    step "The cluster of three is destroyed, with all its volumes" destroy
    step "config/samples/restored.yaml: a new cluster of three, made of what is in the bucket" restore
    step "config/samples: the cluster of three once more, empty" apply_samples
    step "It becomes ready" wait_ready
  fi
  say "" "All of it took $SECONDS s. To look further:"
  if [ -n "$OWN" ]; then
    say "    make demo-shell                          a shell with KUBECONFIG, kubectl, helm and etcdctl; in it, for example:"
  fi
  say "    kubectl get etcdcluster --watch" \
    "    kubectl describe etcdcluster three" \
    "    kubectl get secret three-client          what clients mount: CA, certificate, key, endpoints" \
    "    kubectl delete pod three-0-0             it comes back by itself, with its data" \
    "    kubectl scale etcdcluster one --replicas=3"
  [ -z "$OWN" ] || say "Logs are in $STATE/log."
  say "To end it: make demo-down"
}

down() {
  if [ -n "$OWN" ]; then
    [ "$(id -u)" -eq 0 ] || { say "root started it, root ends it: sudo -E env PATH=\"\$PATH\" make demo-down" >&2; exit 1; }
    "$HERE/down.sh" "$STATE"
    rm -rf --one-file-system "$STATE"
    say "the demo's Kubernetes is gone, and everything in it"
  else
    in_cluster kubectl delete --ignore-not-found -f config/samples/one.yaml -f config/samples/three.yaml
    in_cluster kubectl delete pvc -l 'etcd-core.io/cluster in (one, three)'
    in_cluster helm uninstall --ignore-not-found --wait etcd-operator --namespace $SYSTEM
    say "left: the CustomResourceDefinition (kubectl delete crd etcdclusters.etcd-core.io) and the namespace $SYSTEM"
  fi
}

shell() {
  [ -n "$OWN" ] || { say "KUBECONFIG is set: your own shell reaches that Kubernetes" >&2; exit 1; }
  running || { say "the demo does not run: make demo" >&2; exit 1; }
  say "KUBECONFIG is set; kubectl, helm, etcdctl and etcdutl are on the PATH. Pods and nodes are reachable by address." "'exit' leaves."
  in_cluster "${SHELL:-/bin/bash}" || true
}

OWN=1
[ -z "${KUBECONFIG:-}" ] || OWN=
case ${1:-up} in
  up | down | shell) "${1:-up}" ;;
  *) say "usage: demo.sh [up|shell|down]" >&2; exit 2 ;;
esac
