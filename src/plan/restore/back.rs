//! A restore that is taken back: whoever asked for it has deleted it, or it was found
//! not to be needed. What was stopped starts again, with the data it had.

use crate::api::{RestoreKind, RestoreStage};

use super::{
    super::{Plan, Step},
    Case, begin,
};

impl Case<'_> {
    /// Takes it back if its EtcdRestore is gone, as long as that can be done: until a
    /// survivor's disk may hold the new cluster.
    pub(super) fn take_back(&self) -> Option<Plan> {
        let name = self.record.name.as_ref()?;
        let over = matches!(self.record.stage, RestoreStage::TakingBack);
        if over || begin::of(self.observed, &self.record.id).is_some() {
            return None;
        }
        if self.record.kind != RestoreKind::Backup {
            let founder = self
                .record
                .member
                .as_ref()
                .and_then(|name| self.roster.get(name));
            if self.record.stage == RestoreStage::Founding
                && founder.is_some_and(|founder| founder.has_ticket())
            {
                return None;
            }
        } else if let Some(founder) = &self.record.member
            && let Some(founder) = self.roster.get(founder)
            && self.succeed(founder).is_some()
        {
            return None; // the new cluster serves: there is no way back
        }
        Some(self.turn_back(format!("the EtcdRestore {name} was deleted")))
    }

    pub(super) fn turn_back(&self, message: String) -> Plan {
        let reason = format!("takes the restore back: {message}");
        Plan::step(
            Step::AdvanceRestore {
                stage: RestoreStage::TakingBack,
                message,
            },
            reason,
        )
    }

    /// Undoes what was done to the members.
    pub(super) fn go_back(&self) -> Plan {
        match self.record.kind {
            RestoreKind::Backup => self.end_founder(),
            RestoreKind::Survivor | RestoreKind::QuorumLoss => self.let_go(),
        }
        .unwrap_or_else(|| {
            Plan::step(
                Step::AdvanceRestore {
                    stage: RestoreStage::TakenBack,
                    message: self.record.message.clone(),
                },
                format!("the restore is taken back: {}", self.record.message),
            )
        })
    }

    /// Stops and strikes a founder. What it holds is kept if it may have served.
    fn end_founder(&self) -> Option<Plan> {
        let name = self.record.member.as_ref()?;
        let founder = self.roster.get(name).filter(|founder| !founder.removed)?;
        if let Some(plan) = self.quiet(std::slice::from_ref(name)) {
            return Some(plan);
        }
        Some(Plan::step(
            Step::GiveUpFounder {
                member: founder.name.clone(),
            },
            format!("{name} is not needed; its claim, if anything is on it, is kept"),
        ))
    }

    /// Lets go of members that are held: a plain template, and pods made from it.
    fn let_go(&self) -> Option<Plan> {
        let held = |start: Option<&String>| {
            start.is_some_and(|start| *start == format!("held:{}", self.record.id))
        };
        for member in self.replaced() {
            let name = &member.name;
            let set = member.objects.stateful_set.as_ref();
            if set.is_some_and(|set| held(set.start.as_ref())) {
                return Some(Plan::step(
                    Step::UpdateMember {
                        member: name.clone(),
                    },
                    format!("lets go of {name}"),
                ));
            }
            if let Some(pod) = member.pod().filter(|pod| held(pod.start.as_ref())) {
                return Some(Plan::step(
                    Step::RestartPod {
                        member: name.clone(),
                        pod_uid: pod.uid.clone(),
                        resource_version: pod.resource_version.clone(),
                    },
                    format!("starts {name} again"),
                ));
            }
        }
        None
    }
}
