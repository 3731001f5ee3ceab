//! What must never happen, checked at every call of the operator.

use crate::{
    admission::TicketPaper,
    api::{
        ANNOTATION_TICKET, Departure, EtcdClusterStatus, MemberRole, RestoreStage, RetentionPolicy,
    },
    identity,
    plan::{Call, EtcdCall, Kind, quorum},
};

use super::{World, kubelet::member_of};

impl World {
    /// Judges a call before it is made.
    pub(in crate::plan) fn guard(&self, call: &Call) {
        match call {
            Call::Etcd(EtcdCall::Remove { id, .. }) => self.guard_removal(*id),
            // What has changed since it was looked at is not deleted.
            Call::Delete {
                kind: Kind::Pod,
                name,
                resource_version: Some(version),
                ..
            } if self.version_of(name) != Some(version) => {}
            Call::Delete {
                kind: Kind::Pod,
                name,
                ..
            } => self.guard_restart(name),
            Call::Delete {
                kind: Kind::StatefulSet,
                name,
                ..
            } => {
                let known = self.etcd.members.values().any(|line| line.name == *name);
                let restored = self.cluster.status.as_ref().is_some_and(|status| {
                    let line = status.members.iter().find(|line| line.name == *name);
                    line.is_some_and(|line| line.departure == Some(Departure::Restored))
                });
                assert!(
                    !known || restored,
                    "{name} goes before it has left etcd{}",
                    self.trace()
                );
            }
            Call::Delete {
                kind: Kind::Claim,
                name,
                ..
            } => {
                let storage = &self.cluster.spec.storage;
                let asked =
                    [storage.when_scaled, storage.when_replaced].contains(&RetentionPolicy::Delete);
                assert!(
                    asked || self.is_blank(name),
                    "nobody asked to delete the data of {name}{}",
                    self.trace()
                );
                self.guard_claim(name);
            }
            Call::Patch {
                kind: Kind::Claim,
                name,
                patch,
                ..
            } if patch.pointer("/metadata/annotations").is_some() => self.guard_claim(name),
            Call::Apply(manifest) if manifest.kind == Kind::StatefulSet => {
                let name = &manifest.name;
                // One of two operators that stood still meanwhile may make it once more. It
                // gets no ticket, and must be cleared away in the end.
                assert!(
                    self.rivals || !self.buried.contains(name),
                    "the serial of {name} is used again{}",
                    self.trace()
                );
            }
            _ => {}
        }
    }

    fn version_of(&self, pod: &str) -> Option<&String> {
        let pod = self.api.pods.items.get(pod)?;
        pod.metadata.resource_version.as_ref()
    }

    fn is_blank(&self, claim: &str) -> bool {
        let claim = self.api.claims.items.get(claim);
        let uid = claim.and_then(|claim| claim.metadata.uid.as_ref());
        let volume = uid.and_then(|uid| self.volumes.get(uid));
        volume.is_none_or(|volume| volume.log.is_none())
    }

    /// A claim goes last: after the member, and after its pod.
    fn guard_claim(&self, claim: &str) {
        let member = self
            .api
            .claims
            .items
            .get(claim)
            .map(|it| member_of(&it.metadata));
        let Some(member) = member else { return };
        let pod = self
            .api
            .pods
            .items
            .contains_key(&identity::pod_name(&member));
        let known = self.etcd.members.values().any(|line| line.name == member);
        assert!(
            !pod && !known,
            "the claim of {member} goes too early{}",
            self.trace()
        );
    }

    /// Never voluntarily below quorum.
    fn guard_removal(&self, id: u64) {
        if !self.has_quorum() || !self.etcd.is_voter(id) {
            return;
        }
        let serving = self.serving();
        let left = serving.len() - usize::from(serving.contains(&id));
        let after = self.voters() - 1;
        assert!(
            left >= quorum(after.max(1)),
            "the removal of {id:x} leaves {left} of {after} voters{}",
            self.trace()
        );
        assert!(
            !serving.contains(&id) || self.etcd.leader != Some(id) || self.voters() == 1,
            "the leader is removed without having moved leadership{}",
            self.trace()
        );
    }

    /// One voter at a time, and never the leader while there is another.
    fn guard_restart(&self, pod: &str) {
        let running = self.running();
        let Some((_, log)) = running.iter().find(|(name, _)| name == pod) else {
            return;
        };
        if !self.has_quorum() || !self.etcd.is_voter(log.member) {
            return;
        }
        let (serving, voters) = (self.serving(), self.voters());
        assert_eq!(
            serving.len(),
            voters,
            "two are disrupted at once: {pod}{}",
            self.trace()
        );
        assert!(
            voters == 1 || serving.len() > quorum(voters),
            "the restart of {pod} breaks the quorum{}",
            self.trace()
        );
        assert!(
            voters == 1 || self.etcd.leader != Some(log.member),
            "the leader is restarted{}",
            self.trace()
        );
    }

    /// Judges a status before it is written.
    pub(super) fn guard_status(&mut self, after: &EtcdClusterStatus) {
        let before = self.cluster.status.clone().unwrap_or_default();
        assert!(before.next_serial <= after.next_serial, "serials go back");
        if let Some(id) = &before.cluster_id
            && after.cluster_id.as_ref() != Some(id)
        {
            let restore = after.restore.as_ref().unwrap();
            let succeeds = restore.replaces.as_ref() == Some(id)
                && restore.cluster_id == after.cluster_id
                && after.lineage.last().is_some_and(|a| a.cluster_id == *id);
            assert!(succeeds, "the cluster ID changes{}", self.trace());
        }
        if let (Some(id), Some(current)) = (&after.cluster_id, self.etcd.cluster) {
            let now = before.cluster_id != after.cluster_id;
            assert!(
                !now || *id == identity::hex(current),
                "the wrong cluster ID is latched{}",
                self.trace()
            );
        }
        self.guard_restore(&before, after);
        for line in &before.members {
            let now = after.members.iter().find(|member| member.name == line.name);
            match now {
                None => {
                    self.buried.insert(line.name.clone());
                }
                Some(now) => {
                    if let (Some(before), Some(now)) = (&line.ticket, &now.ticket) {
                        assert!(before.is_same(now), "two tickets for {}", line.name);
                    }
                    if now.ticket.is_none()
                        && let Some(ticket) = &line.ticket
                        && now.role != MemberRole::Removed
                        && after.restore == before.restore
                    {
                        assert!(
                            !self.tickets.contains_key(&ticket.member_id),
                            "the ticket of {} is taken back, and its pod had it{}",
                            line.name,
                            self.trace()
                        );
                    }
                }
            }
        }
    }

    /// A pod has got a ticket: no other ever had one for that member ID.
    pub(super) fn ticketed(&mut self, patch: &serde_json::Value) {
        let text = &patch["metadata"]["annotations"][ANNOTATION_TICKET];
        let Some(text) = text.as_str() else { return };
        let paper: TicketPaper = serde_json::from_str(text).unwrap();
        let (id, uid) = (paper.member_id, paper.pod_uid);
        let other = self.tickets.insert(id.clone(), uid.clone());
        assert!(
            other.is_none_or(|other| other == uid),
            "two tickets for the member ID {id}{}",
            self.trace()
        );
    }

    /// A restore begins only for what was asked, and goes on only when every member that
    /// it replaces has stopped.
    fn guard_restore(&self, before: &EtcdClusterStatus, after: &EtcdClusterStatus) {
        let Some(restore) = after.restore.as_ref() else {
            assert!(before.restore.is_none(), "a restore is forgotten");
            return;
        };
        if let Some(was) = before.restore.as_ref().filter(|was| was.id != restore.id) {
            assert!(was.stage.is_over(), "a restore begins within another");
        }
        let was = before.restore.as_ref().filter(|was| was.id == restore.id);
        let stage = was.map(|was| was.stage);
        let leaves = stage == Some(RestoreStage::Stopping)
            && matches!(
                restore.stage,
                RestoreStage::Founding | RestoreStage::Comparing
            );
        if leaves {
            let pods = &self.api.pods.items;
            let mut names = restore.members.iter();
            let still = names.find(|name| pods.contains_key(&identity::pod_name(name)));
            assert_eq!(
                still,
                None,
                "goes on before all have stopped{}",
                self.trace()
            );
        }
        if stage.is_none_or(|stage| stage != RestoreStage::Done)
            && restore.stage == RestoreStage::Done
        {
            let kept = |name: &&String| *restore.member.as_ref().unwrap() != **name;
            for name in restore.members.iter().filter(kept) {
                let line = after.members.iter().find(|line| line.name == *name);
                let departure = line.and_then(|line| line.departure);
                assert_eq!(
                    departure,
                    Some(Departure::Restored),
                    "{name} is not set aside"
                );
            }
        }
    }

    /// The steps so far, for a message.
    pub(in crate::plan) fn trace(&self) -> String {
        // All of them where one seed is looked into.
        let whole = std::env::var_os("OPERATOR_SEED").is_some();
        let shown = if whole { self.steps.len() } else { 40 };
        let from = self.steps.len() - shown.min(self.steps.len());
        format!("\n{}", self.steps[from..].join("\n"))
    }
}
