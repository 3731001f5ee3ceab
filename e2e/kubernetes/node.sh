#!/usr/bin/env bash
# node.sh N: one node, in network, mount and UTS namespaces of its own; inside.sh starts it.
set -euo pipefail
NAME=node-$1 ADDRESS=172.31.0.$((10 + $1)) D=$S/node-$1
SOCKET=/run/containerd/containerd.sock
. "$HERE/keep.sh"
hostname "$NAME"
read -r _ < "$D/go" # our end of the cable has arrived
ip link set lo up
ip link set "n$1" name eth0
ip addr add "$ADDRESS/24" dev eth0
ip link set eth0 up
ip route add default via "$IP"
echo 1 > /proc/sys/net/ipv4/ip_forward
echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet
mount -t tmpfs tmpfs /run
mkdir -p /run/containerd "$D"/{containerd,kubelet,cni,log/{pods,containers},probe/{lower,upper,work,merged}}
# A kubelet clears away the logs of pods it does not know: those of the other nodes.
for logs in pods containers; do
  mkdir -p /var/log/$logs
  mount --bind "$D/log/$logs" /var/log/$logs
done

# Inside a container whose own root is an overlay, overlays cannot be stacked: layers are copied then.
SNAPSHOTTER=native
P=$D/probe
if mount -t overlay overlay -o "lowerdir=$P/lower,upperdir=$P/upper,workdir=$P/work" "$P/merged" 2> /dev/null; then
  umount "$P/merged"
  SNAPSHOTTER=overlayfs
fi

cat > "$D/cni/10-bridge.conflist" << C
{"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
  "ipam": {"type": "host-local", "dataDir": "/run/cni-ipam", "ranges": [[{"subnet": "10.244.$1.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
C
# restrict_oom_score_adj: without CAP_SYS_RESOURCE runc cannot lower oom_score_adj, and no sandbox would start.
cat > "$D/containerd.toml" << C
version = 3
root = "$D/containerd"
state = "/run/containerd-state"
[grpc]
address = "$SOCKET"
[plugins.'io.containerd.cri.v1.images']
snapshotter = "$SNAPSHOTTER"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "localhost/pause:1"
[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["/usr/lib/cni"]
conf_dir = "$D/cni"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
SystemdCgroup = false
C
keep "$NAME-containerd" "$S/log/$NAME-containerd.log" containerd -c "$D/containerd.toml" &
until ctr -a $SOCKET version > /dev/null 2>&1; do sleep 0.1; done
for image in "$S"/images/*.tar; do
  ctr -a $SOCKET -n k8s.io images import --snapshotter "$SNAPSHOTTER" "$image" >> "$S/log/$NAME-images.log" 2>&1
done
# The same programs by a second name, for a member to be moved to.
if [ -e "$S/images/tag" ]; then
  ctr -a $SOCKET -n k8s.io images tag "localhost/etcd-core:$(cat "$S/images/tag")" localhost/etcd-core:next >> "$S/log/$NAME-images.log" 2>&1
fi
touch "$D/loaded" # load.sh imports what is newer

# failCgroupV1: the kubelet starts on hosts that still have version 1.
# maxContainerRestartPeriod: tests kill the same container again and again, and need not wait minutes for it.
# imageGCHighThresholdPercent: no registry could give an image back that a host with a full disk lets the kubelet collect.
# syncFrequency: how long until a pod that mounts a Secret sees that it was changed; a minute otherwise.
cat > "$D/kubelet.yaml" << C
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
failSwapOn: false
cgroupDriver: cgroupfs
cgroupRoot: /$GROUP/$NAME
enforceNodeAllocatable: []
containerRuntimeEndpoint: unix://$SOCKET
clusterDNS: [$IP]
clusterDomain: cluster.local
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $S/pki/ca.crt}}
authorization: {mode: Webhook}
resolvConf: ""
crashLoopBackOff: {maxContainerRestartPeriod: 2s}
imageGCHighThresholdPercent: 100
syncFrequency: 10s
evictionHard: {imagefs.available: 1%, nodefs.available: 1%, memory.available: 100Mi}
C
until kubectl get --raw /readyz > /dev/null 2>&1; do sleep 0.2; done # up.sh limits the time
# The limits of connection tracking are the host's: 0 leaves them alone.
kube-proxy --kubeconfig="$KUBECONFIG" --proxy-mode=nftables --cluster-cidr="$PODS" --hostname-override="$NAME" \
  --conntrack-max-per-core=0 --conntrack-tcp-timeout-established=0 --conntrack-tcp-timeout-close-wait=0 > "$S/log/$NAME-proxy.log" 2>&1 &
keep "$NAME-kubelet" "$S/log/$NAME-kubelet.log" kubelet --kubeconfig="$KUBECONFIG" --config="$D/kubelet.yaml" \
  --root-dir="$D/kubelet" --hostname-override="$NAME" --node-ip="$ADDRESS"
