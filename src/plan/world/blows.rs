//! What befalls the world.

use crate::identity;

use super::World;

impl World {
    fn nth_pod(&self, nth: usize) -> Option<String> {
        let count = self.api.pods.items.len();
        self.api.pods.items.keys().nth(nth % count.max(1)).cloned()
    }

    /// A pod is deleted, and gone at once.
    pub(in crate::plan) fn kill_pod(&mut self, nth: usize) {
        let Some(name) = self.nth_pod(nth) else {
            return;
        };
        let pod = &self.api.pods.items[&name];
        if self.node_of(pod).is_some_and(|node| !node.up || node.cut) {
            self.api.pods.doom(&mut self.api.ids, &name);
            return; // nobody is there to end it
        }
        let uid = pod.metadata.uid.clone().unwrap();
        self.processes.remove(&uid);
        self.api.pods.remove(&name);
    }

    /// A container crashes; its kubelet starts it again.
    pub(in crate::plan) fn kill_container(&mut self, nth: usize) {
        let Some(name) = self.nth_pod(nth) else {
            return;
        };
        let uid = self.api.pods.items[&name].metadata.uid.clone().unwrap();
        if let Some(process) = self.processes.get_mut(&uid) {
            process.up = false;
            process.crashes += 1;
        }
    }

    fn volume_mut(&mut self, member: &str) -> Option<&mut super::kubelet::Volume> {
        let claim = self.api.claims.items.get(&identity::claim_name(member))?;
        self.volumes.get_mut(claim.metadata.uid.as_deref()?)
    }

    /// A volume is emptied, and its pod restarts.
    pub(in crate::plan) fn empty_volume(&mut self, member: &str) {
        if let Some(volume) = self.volume_mut(member) {
            volume.log = None;
        }
        let pod = identity::pod_name(member);
        let nth = self.api.pods.items.keys().position(|name| *name == pod);
        if let Some(nth) = nth {
            self.kill_pod(nth);
        }
    }

    /// A volume's data is damaged: its member does not start any more.
    pub(in crate::plan) fn corrupt_volume(&mut self, member: &str) {
        if let Some(volume) = self.volume_mut(member) {
            volume.corrupt = true;
        }
    }

    /// A claim is deleted; it stays while its pod does.
    pub(in crate::plan) fn delete_claim(&mut self, member: &str) {
        let name = identity::claim_name(member);
        self.api.claims.doom(&mut self.api.ids, &name);
    }

    pub(in crate::plan) fn delete_set(&mut self, nth: usize) {
        let count = self.api.sets.items.len();
        let name = self.api.sets.items.keys().nth(nth % count.max(1)).cloned();
        if let Some(name) = name {
            self.api.sets.remove(&name);
        }
    }

    /// The node a member's pod is on.
    pub(in crate::plan) fn node(&self, member: &str) -> Option<usize> {
        let pod = self.api.pods.items.get(&identity::pod_name(member))?;
        pod.spec.as_ref()?.node_name.as_ref()?.parse().ok()
    }

    /// Every node has power, and every cable is whole.
    pub(in crate::plan) fn mend_nodes(&mut self) {
        for node in &mut self.nodes {
            (node.up, node.cut) = (true, false);
        }
    }

    /// Someone takes a pod's object away, as after `kubectl delete --force`.
    pub(in crate::plan) fn take_pod_away(&mut self, member: &str) {
        self.api.pods.remove(&identity::pod_name(member));
    }

    /// A node loses power, or has it again.
    pub(in crate::plan) fn power(&mut self, node: usize, up: bool) {
        self.nodes[node].up = up;
    }

    /// A node's cable is cut, or mended.
    pub(in crate::plan) fn cable(&mut self, node: usize, cut: bool) {
        self.nodes[node].cut = cut;
    }

    /// The EtcdCluster is deleted, with all it owns, and made again: a new object.
    pub(in crate::plan) fn recreate(&mut self) {
        let again = self.api.ids.uid("uid-of-demo");
        self.cluster.metadata.uid = again;
        self.cluster.metadata.resource_version = self.api.ids.version();
        self.cluster.status = None;
        self.buried.clear();
    }
}
