//! The members that are left after a quorum was lost: all of them are held, so that none
//! moves while they are compared, and the most advanced makes the new cluster on its own
//! disk.

use crate::{
    admission::{Found, LogFacts},
    api::{ClusterRestore, RestoreKind, RestoreStage, TicketKind},
    identity,
};

use super::{
    super::{
        Choice, Plan, StalledReason, Step, repair,
        roster::{Member, quorum},
    },
    Case, begin, certain, ids, start,
};

/// A member that is held, and what its log holds.
pub(super) struct Held<'r, 'a> {
    pub(super) member: &'r Member<'a>,
    pub(super) log: &'r LogFacts,
}

impl Case<'_> {
    /// Members that are held and have a log.
    pub(super) fn held(&self) -> Vec<Held<'_, '_>> {
        self.replaced()
            .filter(|member| member.found() == Some(Found::Held))
            .filter_map(|member| {
                let log = member.pod()?.report.as_ref()?.log.as_ref()?;
                Some(Held { member, log })
            })
            .collect()
    }

    /// Whether a member has a volume that may hold something.
    fn has_volume(member: &Member<'_>) -> bool {
        let claim = member.objects.claim.as_ref();
        claim.is_some_and(|claim| !claim.deleting && claim.cluster_id.is_some())
    }

    pub(super) fn compare(&self) -> Plan {
        if let Some(plan) = self.hold() {
            return plan;
        }
        let held = self.held();
        // Learners have what voters have committed, and their say does not count.
        let voters = self.roster.voters().count();
        let left = held.iter().filter(|held| held.member.is_voter()).count();
        if voters > 0 && left >= quorum(voters) {
            return self.turn_back(format!(
                "{left} of {voters} voters have their data: nothing needs to be given up"
            ));
        }
        let best = held.iter().max_by_key(|held| {
            (
                held.log.last_term,
                held.log.last_index,
                std::cmp::Reverse(held.member.serial),
            )
        });
        let Some(best) = best else {
            return Plan::stalled(
                StalledReason::RestoreFailed,
                format!(
                    "no member that is left has a log: {}. Restore a backup instead.{}",
                    repair::toll(self.roster).1,
                    self.way_back()
                ),
            );
        };
        if self.record.kind == RestoreKind::QuorumLoss
            && let Err(why) = certain::held(self.cluster, self.roster, best)
        {
            return self.turn_back(why);
        }
        let toll = certain::toll(self.cluster, self.roster, best);
        let choice = Choice {
            message: format!(
                "{} is the most advanced: its log ends at term {} and index {}; {}",
                best.member.name, best.log.last_term, best.log.last_index, toll.words
            ),
            lost_revisions: toll.lost,
            bump_revision: begin::bump(self.observed, self.record),
        };
        self.choose(best.member, choice)
    }

    /// Has every member that has a volume held; `None`: all of them say what they have.
    fn hold(&self) -> Option<Plan> {
        let with_volume = || self.replaced().filter(|member| Self::has_volume(member));
        let loose: Vec<String> = with_volume()
            .filter(|member| {
                let set = member.objects.stateful_set.as_ref();
                let wanted = start(self.cluster, &member.name);
                set.is_none_or(|set| set.replicas == 0 || set.start != wanted)
            })
            .map(|member| member.name.clone())
            .collect();
        if !loose.is_empty() {
            let reason = format!(
                "{}: holds {}, to compare them",
                self.whom(),
                loose.join(", ")
            );
            return Some(Plan::step(Step::HoldMembers { members: loose }, reason));
        }
        // One whose machine is off for ever has no say.
        let silent: Vec<String> = with_volume()
            .filter(|member| !certain::is_lost(self.roster, member))
            .filter(|member| {
                !matches!(
                    member.found(),
                    Some(Found::Held | Found::Empty | Found::Spent)
                )
            })
            .map(|member| format!("{} ({})", member.name, member.trouble()))
            .collect();
        (!silent.is_empty()).then(|| {
            Plan::wait(format!(
                "waits for what these have on their volumes: {}. Delete the claim of one that is gone for ever, and it is left out",
                silent.join(", ")
            ))
        })
    }

    fn choose(&self, member: &Member<'_>, choice: Choice) -> Plan {
        let record = ClusterRestore {
            attempt: self.record.attempt + 1,
            ..self.record.clone()
        };
        let (_, cluster_id) = ids(self.roster, &record, &member.name);
        let reason = format!(
            "{}; makes cluster {} of it",
            choice.message,
            identity::hex(cluster_id)
        );
        Plan::step(
            Step::ChooseSurvivor {
                member: member.name.clone(),
                cluster_id,
                choice,
            },
            reason,
        )
    }

    /// The one that was chosen makes the new cluster on its own disk.
    pub(super) fn revive(&self) -> Plan {
        let founder = self
            .record
            .member
            .as_ref()
            .and_then(|name| self.roster.get(name));
        let Some(founder) = founder else {
            return Plan::wait("waits for the member that was chosen");
        };
        if let Some(plan) = self.succeed(founder) {
            return plan;
        }
        if let Some(plan) = self.hold_founder(founder) {
            return plan;
        }
        let waits = founder.found() == Some(Found::Held);
        let Some(pod) = founder.pod().filter(|_| waits) else {
            return Plan::wait(format!(
                "waits for {} to make the new cluster: {}",
                founder.name,
                founder.trouble()
            ));
        };
        if founder.has_ticket() && !founder.ticket_is_current() {
            // Its pod was replaced before it was done; its data is as it was.
            return Plan::step(
                Step::AdvanceRestore {
                    stage: RestoreStage::Comparing,
                    message: self.record.message.clone(),
                },
                format!("the pod of {} was replaced; compares anew", founder.name),
            );
        }
        if !pod.ticketed {
            return self.admit(founder, &pod.uid, TicketKind::Revive);
        }
        let failure = pod
            .report
            .as_ref()
            .and_then(|report| report.failure.as_ref());
        match failure {
            Some(failure) => Plan::stalled(
                StalledReason::RestoreFailed,
                format!(
                    "{} cannot make a new cluster of its data ({:?}): {}",
                    founder.name, failure.reason, failure.message
                ),
            ),
            None => Plan::wait(format!(
                "waits for {} to make the new cluster",
                founder.name
            )),
        }
    }

    /// Makes its StatefulSet again, should it be gone.
    fn hold_founder(&self, founder: &Member<'_>) -> Option<Plan> {
        let name = &founder.name;
        founder.objects.stateful_set.is_none().then(|| {
            Plan::step(
                Step::HoldMembers {
                    members: vec![name.clone()],
                },
                format!("the StatefulSet of {name} is gone; makes it again"),
            )
        })
    }
}
