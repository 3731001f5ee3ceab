//! The first member of a cluster that is made of a backup: a new one, with a new serial,
//! an empty claim, and a ticket for its pod's init container.

use crate::{
    admission::{Found, TicketPaper},
    api::{ClusterRestore, EtcdCluster, RestoreKind, TicketKind},
    backup::run::{FoundingMember, RestoreRun},
    identity, jobs,
    observe::Observed,
    render::{DATA_DIR, Restored, transport},
};

use super::{
    super::{Plan, StalledReason, Step, bootstrap::lacks_objects, roster::Member, update},
    Case, begin, ids, token, under_way,
};

impl Case<'_> {
    pub(super) fn found(&self) -> Plan {
        let Some(name) = &self.record.member else {
            return self.make_founder();
        };
        let Some(founder) = self.roster.get(name) else {
            return self.make_founder();
        };
        if let Some(plan) = self.succeed(founder) {
            return plan;
        }
        let token = format!("restored:{}", token(self.record, name));
        if founder.has_ticket() && !founder.ticket_is_current() && self.waits(founder, &token) {
            return self.give_up(founder, "its pod was replaced before it was whole");
        }
        if founder.lost_data(self.roster.persistent) && founder.has_ticket() {
            return self.give_up(founder, "its volume is gone");
        }
        if lacks_objects(founder, self.roster.persistent) {
            if founder.has_ticket() && self.roster.persistent && founder.objects.claim.is_none() {
                return self.give_up(founder, "its claim is gone");
            }
            return Plan::step(
                Step::EnsureMember {
                    member: name.clone(),
                },
                format!("{name} lacks its StatefulSet or its claim"),
            );
        }
        if let Some(plan) = update::refresh(self.cluster, self.roster, self.settings) {
            return plan;
        }
        let pod = founder.pod();
        if let Some(pod) = pod.filter(|pod| !pod.ticketed && self.waits(founder, &token)) {
            return self.admit(founder, &pod.uid, TicketKind::Restore);
        }
        let failure = pod
            .and_then(|pod| pod.report.as_ref())
            .and_then(|report| report.failure.as_ref());
        match failure {
            Some(failure) if !failure.transient => Plan::stalled(
                StalledReason::RestoreFailed,
                format!(
                    "{name} cannot be restored ({:?}): {} It is tried again from time to time.{}",
                    failure.reason,
                    sentence(&failure.message),
                    self.way_back()
                ),
            ),
            Some(failure) => Plan::wait(format!(
                "waits for {name} to be restored: {}",
                failure.message
            )),
            None => Plan::wait(format!(
                "waits for {name} to be restored: {}",
                founder.trouble()
            )),
        }
    }

    fn make_founder(&self) -> Plan {
        if begin::stored(self.cluster, self.observed).is_none() {
            return Plan::wait(format!(
                "waits for what the cluster is made of, which {} names",
                self.whom()
            ));
        }
        let serial = self.roster.next_serial;
        let member = identity::member_name(self.roster.cluster, serial);
        let record = ClusterRestore {
            attempt: self.record.attempt + 1,
            ..self.record.clone()
        };
        let (_, cluster_id) = ids(self.roster, &record, &member);
        let reason = format!(
            "{}: makes {member}, the first of cluster {}",
            self.whom(),
            identity::hex(cluster_id)
        );
        Plan::step(
            Step::CreateFounder {
                member,
                serial,
                cluster_id,
            },
            reason,
        )
    }

    fn give_up(&self, founder: &Member<'_>, why: &str) -> Plan {
        Plan::step(
            Step::GiveUpFounder {
                member: founder.name.clone(),
            },
            format!("{}: {why}; another takes its place", founder.name),
        )
    }

    /// Whether its pod waits, with this part in the restore and nothing on its disk.
    fn waits(&self, founder: &Member<'_>, start: &str) -> bool {
        let report = founder.pod().and_then(|pod| pod.report.as_ref());
        founder.found() == Some(Found::Empty)
            && report.is_some_and(|report| report.start.as_deref() == Some(start))
    }

    /// Hands the founder its ticket.
    pub(super) fn admit(&self, founder: &Member<'_>, pod_uid: &str, kind: TicketKind) -> Plan {
        let (id, cluster_id) = ids(self.roster, self.record, &founder.name);
        let url = identity::peer_url(
            self.roster.cluster,
            self.roster.namespace,
            &founder.name,
            self.roster.secure_peers,
        );
        let ticket = TicketPaper {
            kind,
            pod_uid: pod_uid.to_owned(),
            member_id: identity::hex(id),
            cluster_id: identity::hex(cluster_id),
            token: token(self.record, &founder.name),
            initial_cluster: vec![format!("{}={url}", founder.name)],
            bump_revision: begin::bump(self.observed, self.record),
        };
        Plan::step(
            Step::IssueTicket {
                member: founder.name.clone(),
                ticket,
            },
            format!(
                "admits {} to found cluster {}",
                founder.name,
                identity::hex(cluster_id)
            ),
        )
    }

    /// The founder serves as the new cluster: latches that.
    pub(super) fn succeed(&self, founder: &Member<'_>) -> Option<Plan> {
        let (id, cluster_id) = ids(self.roster, self.record, &founder.name);
        let seen = founder.pod()?.etcd.as_ref()?;
        if (seen.cluster_id, seen.member_id, seen.serving) != (cluster_id, id, true) {
            return None;
        }
        let volumes = self
            .replaced()
            .filter(|member| member.name != founder.name && member.objects.claim.is_some())
            .map(|member| identity::claim_name(&member.name))
            .collect();
        let restored = match self.record.kind {
            RestoreKind::Backup => None, // told by what was verified
            RestoreKind::Survivor | RestoreKind::QuorumLoss => {
                let bump = begin::bump(self.observed, self.record);
                Some((seen.revision - bump).max(0))
            }
        };
        let mut reason = format!(
            "{} serves as cluster {}",
            founder.name,
            identity::hex(cluster_id)
        );
        if let Some(before) = &self.record.replaces {
            reason.push_str(&format!(", in place of {before}"));
        }
        if let Some(restored) = restored {
            let lost = match self.record.lost_revisions {
                Some(lost) => lost.to_string(),
                None => "it is not known how many".to_owned(),
            };
            reason.push_str(&format!(
                "; it begins with revision {restored}, revisions lost: {lost}"
            ));
        }
        Some(Plan::step(
            Step::Succeed {
                member: founder.name.clone(),
                id,
                cluster_id,
                source: founder.pod()?.made_of.clone(),
                volumes,
                revision: seen.revision,
                restored,
                at: self.now,
            },
            reason,
        ))
    }

    /// What a person can do to have the cluster back as it was.
    pub(super) fn way_back(&self) -> String {
        match &self.record.name {
            Some(name) if self.record.replaces.is_some() => format!(
                " The volumes of the members before are untouched: delete the EtcdRestore {name}, and they start again."
            ),
            _ => String::new(),
        }
    }
}

pub(super) fn sentence(text: &str) -> String {
    let text = text.trim_end();
    if text.ends_with(['.', '!', '?']) {
        text.to_owned()
    } else {
        format!("{text}.")
    }
}

/// What the founder's pod is told to make its data directory of; `None` while that is
/// not known.
pub(crate) fn init(cluster: &EtcdCluster, observed: &Observed, member: &str) -> Option<Restored> {
    let record = under_way(cluster)?;
    let stored = begin::stored(cluster, observed)?;
    let name = cluster.metadata.name.as_deref().unwrap_or_default();
    let namespace = cluster.metadata.namespace.as_deref().unwrap_or_default();
    let secure = transport::in_effect(cluster).secures_peers();
    let token = token(record, member);
    Some(Restored {
        run: RestoreRun {
            id: token.clone(),
            source: jobs::source::told(&stored.source, stored.target.as_ref(), Vec::new()),
            expected_sha256: stored.sha256,
            data_dir: DATA_DIR.into(),
            member: member.to_owned(),
            members: vec![FoundingMember {
                name: member.to_owned(),
                peer_urls: vec![identity::peer_url(name, namespace, member, secure)],
            }],
            token,
            bump_revision: u64::try_from(stored.bump).unwrap_or(0),
        },
        destination: stored.source.destination,
        encryption: stored.source.encryption,
    })
}
