//! Every member is stopped, and its kubelet has confirmed it, before another cluster is
//! made of its data or in its place.

use crate::api::{RestoreKind, RestoreStage};

use super::{
    super::{Plan, Step, roster::Member},
    Case,
};

impl Case<'_> {
    /// Members that the restore replaces.
    pub(super) fn replaced(&self) -> impl Iterator<Item = &Member<'_>> {
        let members = self.roster.members.iter();
        members.filter(|member| self.record.members.contains(&member.name))
    }

    pub(super) fn stop(&self) -> Plan {
        if let Some(plan) = self.quiet(&self.record.members) {
            return plan;
        }
        let stage = match self.record.kind {
            RestoreKind::Backup => RestoreStage::Founding,
            RestoreKind::Survivor | RestoreKind::QuorumLoss => RestoreStage::Comparing,
        };
        Plan::step(
            Step::AdvanceRestore {
                stage,
                message: String::new(),
            },
            "every member has stopped, by its kubelet's word",
        )
    }

    /// Stops these members; `None`: they have.
    pub(super) fn quiet(&self, names: &[String]) -> Option<Plan> {
        let these = || {
            let members = self.roster.members.iter();
            members.filter(|member| names.contains(&member.name))
        };
        let awake: Vec<String> = these()
            .filter(|member| {
                let set = member.objects.stateful_set.as_ref();
                set.is_some_and(|set| set.replicas != 0)
            })
            .map(|member| member.name.clone())
            .collect();
        if !awake.is_empty() {
            let reason = format!("{}: stops {}", self.whom(), awake.join(", "));
            return Some(Plan::step(
                Step::SetReplicas {
                    members: awake,
                    replicas: 0,
                },
                reason,
            ));
        }
        let still: Vec<String> = these()
            .filter_map(|member| {
                let pod = member.objects.pod.as_ref()?;
                let node = pod.node.as_deref().unwrap_or("no node");
                Some(format!("{} on {node}", member.name))
            })
            .collect();
        (!still.is_empty()).then(|| {
            Plan::wait(format!(
                "waits until kubelets confirm that these have stopped: {}. A node that is gone for ever is told to Kubernetes by the taint node.kubernetes.io/out-of-service",
                still.join(", ")
            ))
        })
    }
}
