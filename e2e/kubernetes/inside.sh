#!/usr/bin/env bash
# inside.sh STATE NODES: what up.sh runs as the first process of the new namespaces.
#
#   etcd <- kube-apiserver <- kube-controller-manager, kube-scheduler, CoreDNS   172.31.0.1 on br0
#                          <- node-N: kubelet, kube-proxy, containerd            172.31.0.(10+N), cable hN - eth0, pods in 10.244.N.0/24
#
# What the operator's service account asks of the API server is in log/audit.log.
set -euo pipefail
S=$1 NODES=$2
HERE=$(cd "$(dirname "$0")" && pwd)
. "$HERE/keep.sh"
export PATH=$BIN:$PATH KUBECONFIG=$S/admin.kubeconfig KUBECACHEDIR=$S/kubectl
IP=172.31.0.1 SERVICES=10.96.0.0/16 PODS=10.244.0.0/16 API=10.96.0.1
cd "$S"

# until_true SECONDS WHAT LOG COMMAND...: waits for COMMAND to succeed; if it does not, says what was waited for and shows LOG.
until_true() {
  local limit=$((SECONDS + $1)) what=$2 log=$3; shift 3
  until "$@" > /dev/null 2>&1; do
    if [ $SECONDS -ge $limit ]; then
      echo "$what: not in time. The end of $log:" >&2
      tail -n 15 "$log" >&2
      exit 1
    fi
    sleep 0.1
  done
}

network() {
  ip link set lo up
  ip link add br0 type bridge
  ip addr add $IP/24 dev br0
  ip link set br0 up
  echo 1 > /proc/sys/net/ipv4/ip_forward
  mkdir -p /tmp/hostpath_pv # where the controller that provisions host paths puts volumes; it cannot be told otherwise
  mount --bind "$S/volumes" /tmp/hostpath_pv
}

# The provisioner makes volumes that only root may write, and host paths know no fsGroup, as real volumes do.
open_volumes() {
  local volume
  while sleep 0.2; do
    for volume in volumes/*/; do [ ! -d "$volume" ] || [ -k "$volume" ] || chmod 1777 "$volume"; done
  done
}

pki() {
  local ec=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
  openssl req -x509 "${ec[@]}" -keyout pki/ca.key -out pki/ca.crt -subj /CN=ca -days 365 2> /dev/null
  openssl ecparam -name prime256v1 -genkey -noout -out pki/sa.key
  local name subject names
  while read -r name subject names; do
    openssl req "${ec[@]}" -keyout "pki/$name.key" -out "pki/$name.csr" -subj "$subject" 2> /dev/null
    openssl x509 -req -in "pki/$name.csr" -CA pki/ca.crt -CAkey pki/ca.key -CAcreateserial -out "pki/$name.crt" -days 365 \
      -extfile <(echo "subjectAltName=$names"; echo extendedKeyUsage=serverAuth,clientAuth) 2> /dev/null
  done << C
apiserver /CN=kube-apiserver IP:127.0.0.1,IP:$IP,IP:$API,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc
admin /O=system:masters/CN=admin DNS:admin
C
  cat > admin.kubeconfig << C
apiVersion: v1
kind: Config
clusters: [{name: e2e, cluster: {server: "https://$IP:6443", certificate-authority: $S/pki/ca.crt}}]
users: [{name: admin, user: {client-certificate: $S/pki/admin.crt, client-key: $S/pki/admin.key}}]
contexts: [{name: e2e, context: {cluster: e2e, user: admin}}]
current-context: e2e
C
}

# Which rights are used can be compared with those that are granted: see e2e/tests/rights.rs.
audit_policy() {
  cat > audit.yaml << C
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Metadata, userGroups: ["system:serviceaccounts:etcd-system"]}
- {level: None}
C
}

control_plane() {
  keep storage log/etcd.log "$ETCD" --name=storage --data-dir="$S/etcd" \
    --listen-client-urls=http://127.0.0.1:2379 --advertise-client-urls=http://127.0.0.1:2379 --listen-peer-urls=http://127.0.0.1:2380 --initial-advertise-peer-urls=http://127.0.0.1:2380 \
    --initial-cluster=storage=http://127.0.0.1:2380 &
  keep apiserver log/apiserver.log kube-apiserver \
    --etcd-servers=http://127.0.0.1:2379 --advertise-address=$IP --service-cluster-ip-range=$SERVICES \
    --client-ca-file=pki/ca.crt --tls-cert-file=pki/apiserver.crt --tls-private-key-file=pki/apiserver.key \
    --service-account-issuer=https://kubernetes.default.svc --service-account-key-file=pki/sa.key \
    --service-account-signing-key-file=pki/sa.key --authorization-mode=Node,RBAC --allow-privileged \
    --kubelet-client-certificate=pki/admin.crt --kubelet-client-key=pki/admin.key \
    --audit-policy-file=audit.yaml --audit-log-path="$S/log/audit.log" \
    --kubelet-preferred-address-types=InternalIP & # names of nodes are in no DNS
  # The nodes' own parts do not need the API server yet: they start meanwhile.
  nodes
  until_true 120 "the API server is ready" log/apiserver.log kubectl get --raw /readyz
  kube-controller-manager --kubeconfig="$KUBECONFIG" --service-account-private-key-file=pki/sa.key --root-ca-file=pki/ca.crt \
    --use-service-account-credentials --cluster-signing-cert-file=pki/ca.crt --cluster-signing-key-file=pki/ca.key \
    --leader-elect=false --enable-hostpath-provisioner --node-monitor-grace-period=20s ${CONTROLLER_FLAGS:-} > log/controller-manager.log 2>&1 &
  kube-scheduler --kubeconfig="$KUBECONFIG" --leader-elect=false ${SCHEDULER_FLAGS:-} > log/scheduler.log 2>&1 &
  cat > Corefile << C
.:53 {
    bind $IP
    errors
    kubernetes cluster.local in-addr.arpa {
        kubeconfig $S/admin.kubeconfig e2e
        pods insecure
        ttl 1
    }
}
C
  coredns -conf Corefile > log/coredns.log 2>&1 &
  kubectl apply -f - > /dev/null << C
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: standard, annotations: {storageclass.kubernetes.io/is-default-class: "true"}}
provisioner: kubernetes.io/host-path
reclaimPolicy: Delete
C
}

nodes() {
  local i pid
  export S IP PODS HERE
  for i in $(seq "$NODES"); do
    mkdir -p "node-$i"; mkfifo "node-$i/go"
    unshare --net --mount --uts "$HERE/node.sh" "$i" > "log/node-$i.log" 2>&1 &
    pid=$!
    echo $pid > "node-$i/pid"
    ip link add "h$i" type veth peer name "n$i"
    ip link set "h$i" master br0 up
    # Its network namespace exists once it is not ours any more.
    until [ "$(readlink /proc/$pid/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.02; done
    ip link set "n$i" netns $pid
    ip route add "10.244.$i.0/24" via "172.31.0.$((10 + i))"
    # Services too, for clients that are in no pod: by the proxy of the first node.
    [ "$i" -ne 1 ] || ip route add $SERVICES via 172.31.0.11
    echo > "node-$i/go"
  done
}

network
open_volumes &
pki
audit_policy
control_plane
for i in $(seq "$NODES"); do until_true 120 "node-$i registers" "log/node-$i-kubelet.log" kubectl get node "node-$i"; done
[ "$NODES" -eq 0 ] || kubectl wait --for=condition=Ready node --all --timeout=120s > /dev/null
date +%s > ready
wait
