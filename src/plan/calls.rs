//! From a step to its calls.

use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde_json::json;

use crate::{
    admission::TicketPaper,
    api::{
        ANNOTATION_RETIRED, ANNOTATION_TICKET, EtcdCluster, LABEL_ROLE, Quantity, ROLE_VOTER,
        RetentionPolicy, Ticket,
    },
    certificates::{Purpose, Requested, member_secret},
    identity,
    observe::Observed,
    render::{self, Settings, Start},
};

use super::{
    Member, Roster, Step,
    call::{Call, CertificateCall, EtcdCall, Kind, Manifest, Record},
    restore::{self, Part},
    tls,
};

/// The calls of `step`, in order, for a cluster that was read live, as `observed`
/// was. What must be remembered is recorded before the act it speaks of; what names
/// an object names its UID.
///
/// # Errors
///
/// Why the step cannot be done yet.
pub fn calls(
    cluster: &EtcdCluster,
    observed: &Observed,
    settings: &Settings,
    step: &Step,
) -> Result<Vec<Call>, String> {
    let around = Around {
        cluster,
        observed,
        settings,
        roster: Roster::new(cluster, observed),
    };
    Ok(match step.clone() {
        Step::None => Vec::new(),
        Step::ApplyShared => around.shared(),
        Step::Adopt {
            cluster_id,
            members,
        } => vec![Call::Record(Record::Adopted {
            cluster_id,
            members,
        })],
        Step::CreateMember { member, serial } => {
            let record = Record::Serial {
                member: member.clone(),
                serial,
            };
            let mut calls = vec![Call::Record(record)];
            calls.extend(around.make(&member)?);
            calls
        }
        Step::EnsureMember { member } => around.make(&member)?,
        Step::SetTransport { tls } => vec![Call::Record(Record::Transport(tls))],
        Step::MakeAuthority { purpose } => {
            vec![Call::Certificates(CertificateCall::MakeAuthority {
                purpose,
            })]
        }
        Step::RotateAuthority {
            purpose,
            to,
            request,
        } => vec![Call::Certificates(CertificateCall::RotateAuthority {
            purpose,
            to,
            request,
        })],
        Step::RequestCertificate { request } => around.request(request).into_iter().collect(),
        Step::CertifyMember { member, grants } => {
            vec![Call::Certificates(CertificateCall::Member {
                member,
                grants,
            })]
        }
        Step::CertifyClients { grant, endpoints } => {
            vec![Call::Certificates(CertificateCall::Clients {
                grant,
                endpoints,
            })]
        }
        Step::UpdatePeerUrl {
            member,
            id,
            peer_url,
        } => vec![Call::Etcd(EtcdCall::UpdatePeers {
            member,
            id,
            peer_url,
        })],
        Step::BeginRestore { restore } => vec![Call::Record(Record::Restore(restore))],
        Step::AdvanceRestore { stage, message } => {
            vec![Call::Record(Record::RestoreStage { stage, message })]
        }
        Step::HoldMembers { members } => around.stateful_sets(&members)?,
        Step::CreateFounder {
            member,
            serial,
            cluster_id,
        } => around.make_founder(member, serial, cluster_id)?,
        Step::ChooseSurvivor {
            member,
            cluster_id,
            choice,
        } => vec![Call::Record(Record::Founder {
            member,
            serial: None,
            cluster_id,
            choice: Some(choice),
        })],
        Step::GiveUpFounder { member } => vec![Call::Record(Record::FounderGone { member })],
        Step::Succeed {
            member,
            id,
            cluster_id,
            source,
            volumes,
            revision,
            restored,
            at,
        } => vec![Call::Record(Record::Succeeded {
            member,
            id,
            cluster_id,
            source,
            volumes,
            revision,
            restored,
            at,
        })],
        Step::BeginBootstrap { bootstrap } => vec![Call::Record(Record::Bootstrap(bootstrap))],
        Step::AbandonBootstrap { members } => vec![Call::Record(Record::Removed { members })],
        Step::DiscardCandidate { member } => vec![Call::Record(Record::Removed {
            members: vec![member],
        })],
        Step::ForgetMember { member } => {
            let keys = observed.certificates.secrets.get(&member);
            let keys = keys.map(|uid| Call::Delete {
                kind: Kind::Secret,
                name: member_secret(&member),
                uid: uid.clone(),
                resource_version: None,
            });
            let forget = Call::Record(Record::Forgotten { member });
            keys.into_iter().chain([forget]).collect()
        }
        Step::IssueTicket { member, ticket } => around.issue(&member, &ticket)?,
        Step::AddMember { member, peer_url } => {
            vec![Call::Etcd(EtcdCall::AddLearner { member, peer_url })]
        }
        Step::PromoteMember { member, id } => vec![Call::Etcd(EtcdCall::Promote { member, id })],
        Step::RemoveMember {
            member,
            id,
            departure,
        } => {
            let record = Record::Leaving {
                member: member.clone(),
                departure,
            };
            vec![
                Call::Record(record),
                Call::Etcd(EtcdCall::Remove { member, id }),
            ]
        }
        Step::MoveLeader { from, to, to_id } => {
            vec![Call::Etcd(EtcdCall::MoveLeader { from, to, to_id })]
        }
        Step::DeleteStatefulSet { member, uid } => vec![Call::Delete {
            kind: Kind::StatefulSet,
            name: member,
            uid,
            resource_version: None,
        }],
        Step::ReleaseClaim {
            member,
            uid,
            policy,
            why,
        } => vec![release(&member, uid, policy, &why)],
        Step::TagMember { member } => around.tag(&member),
        Step::GrowClaim { member, size } => {
            let spec = json!({"resources": {"requests": {"storage": size}}});
            let record = around.size_until_now().into_iter();
            record.chain(around.patch_claim(&member, spec)).collect()
        }
        Step::MarkHistory { mark } => vec![Call::Record(Record::History(mark))],
        Step::Compact { revision } => vec![
            Call::Etcd(EtcdCall::Compact { revision }),
            Call::Record(Record::Compacted),
        ],
        Step::Defragment { member, at } => vec![
            Call::Record(Record::Defragmented {
                member: member.clone(),
                at,
            }),
            Call::Etcd(EtcdCall::Defragment { member }),
        ],
        Step::DisarmNoSpace { ids } => ids
            .into_iter()
            .map(|id| Call::Etcd(EtcdCall::DisarmNoSpace { id }))
            .collect(),
        Step::SetReplicas {
            members,
            replicas: 0,
        } => members
            .iter()
            .filter_map(|member| around.stop(member))
            .collect(),
        // Waking is a planned restart: it takes the newest template.
        Step::SetReplicas { members, .. } => around.stateful_sets(&members)?,
        Step::UpdateMember { member } => vec![around.stateful_set(&member)?],
        Step::RestartPod {
            member,
            pod_uid,
            resource_version,
        } => vec![Call::Delete {
            kind: Kind::Pod,
            name: identity::pod_name(&member),
            uid: pod_uid,
            resource_version: Some(resource_version),
        }],
    })
}

fn release(member: &str, uid: String, policy: RetentionPolicy, why: &str) -> Call {
    let name = identity::claim_name(member);
    match policy {
        RetentionPolicy::Delete => Call::Delete {
            kind: Kind::Claim,
            name,
            uid,
            resource_version: None,
        },
        RetentionPolicy::Retain => patch(
            Kind::Claim,
            name,
            json!({"metadata": {"uid": uid, "annotations": {ANNOTATION_RETIRED: why}}}),
        ),
    }
}

fn patch(kind: Kind, name: String, patch: serde_json::Value) -> Call {
    Call::Patch {
        kind,
        name,
        patch,
        otherwise: None,
    }
}

/// What is asked of cert-manager.
fn certificate(body: serde_json::Value, name: String, seen: bool) -> Call {
    Call::Apply(Manifest {
        kind: Kind::Certificate,
        name,
        body,
        seen,
    })
}

fn manifest<K>(kind: Kind, object: &K, seen: bool) -> Call
where
    K: Resource<DynamicType = ()> + Serialize,
{
    let mut body = serde_json::to_value(object).expect("manifests are JSON");
    body["apiVersion"] = K::api_version(&()).into();
    body["kind"] = K::kind(&()).into();
    Call::Apply(Manifest {
        kind,
        name: object.name_any(),
        body,
        seen,
    })
}

struct Around<'a> {
    cluster: &'a EtcdCluster,
    observed: &'a Observed,
    settings: &'a Settings,
    roster: Roster<'a>,
}

impl Around<'_> {
    fn shared(&self) -> Vec<Call> {
        let wanted = render::Shared::of(self.cluster, self.roster.voters().count());
        let seen = self.observed;
        vec![
            manifest(
                Kind::Service,
                &wanted.peer_service,
                seen.peer_service.is_some(),
            ),
            manifest(
                Kind::Service,
                &wanted.client_service,
                seen.client_service.is_some(),
            ),
            manifest(
                Kind::DisruptionBudget,
                &wanted.disruption_budget,
                seen.disruption_budget.is_some(),
            ),
        ]
    }

    fn request(&self, request: Requested) -> Option<Call> {
        let name = request.name(&self.cluster.name_any());
        let mut purposes = Purpose::ALL.into_iter();
        let purpose = purposes.find(|purpose| Requested::of(*purpose).contains(&request))?;
        let spec = render::cert_manager(self.cluster, purpose)?;
        let body = render::certificate(self.cluster, request, spec);
        let requests = self.observed.certificates.requests.as_ref();
        let seen = requests.is_some_and(|requests| requests.contains_key(&name));
        Some(certificate(body, name, seen))
    }

    /// Makes what a member lacks: a blank claim, never one for a member that has data
    /// on record, and its StatefulSet.
    fn make(&self, member: &str) -> Result<Vec<Call>, String> {
        let known = self.roster.get(member);
        let blank = known.is_none_or(|known| known.id.is_none() && !known.has_ticket());
        let has_claim = known.is_some_and(|known| known.objects.claim.is_some());
        let spec = self.cluster.spec.storage.persistent_volume_claim.as_ref();
        let claim = spec.filter(|_| blank && !has_claim).map(|spec| {
            let claim = render::claim(self.cluster, member, spec, None);
            manifest(Kind::Claim, &claim, false)
        });
        // A pod waits for ever for a Secret that is not there.
        let grants = tls::grants(self.cluster, &self.roster, self.observed);
        let certificates = (!grants.is_empty()).then(|| {
            Call::Certificates(CertificateCall::Member {
                member: member.to_owned(),
                grants,
            })
        });
        let set = self.stateful_set(member)?;
        Ok(claim.into_iter().chain(certificates).chain([set]).collect())
    }

    /// Records the founder, then makes it as the record says.
    fn make_founder(
        &self,
        member: String,
        serial: i64,
        cluster_id: u64,
    ) -> Result<Vec<Call>, String> {
        let record = Record::Founder {
            member: member.clone(),
            serial: Some(serial),
            cluster_id,
            choice: None,
        };
        let mut recorded = self.cluster.clone();
        record.write(recorded.status.get_or_insert_default());
        let around = Around {
            cluster: &recorded,
            roster: Roster::new(&recorded, self.observed),
            ..*self
        };
        let made = around.make(&member)?;
        Ok([Call::Record(record)].into_iter().chain(made).collect())
    }

    fn stateful_sets(&self, members: &[String]) -> Result<Vec<Call>, String> {
        members
            .iter()
            .map(|member| self.stateful_set(member))
            .collect()
    }

    /// How a member's pod starts, and whether it does.
    fn start(&self, member: &str) -> Result<(Start, i32), String> {
        // A cluster that is formed and to sleep has no pods; one that forms needs them.
        let asleep = self.roster.formed() && self.cluster.spec.replicas == 0;
        Ok(match restore::part(self.cluster, member) {
            Part::Free => (Start::Plain, i32::from(!asleep)),
            Part::Stopped => (Start::Plain, 0),
            Part::Held => {
                let record = restore::under_way(self.cluster);
                let id = record.map(|record| record.id.clone()).unwrap_or_default();
                (Start::Held { id }, 1)
            }
            Part::Founder => {
                let init = restore::init(self.cluster, self.observed, member);
                let init = init.ok_or_else(|| format!("what {member} is made of is not known"))?;
                (Start::Restored(Box::new(init)), 1)
            }
        })
    }

    fn stateful_set(&self, member: &str) -> Result<Call, String> {
        let known = self.roster.get(member);
        let voter = known.is_some_and(Member::is_voter);
        let (start, replicas) = self.start(member)?;
        let mut set =
            render::stateful_set(self.cluster, member, self.settings, replicas, voter, &start);
        let seen = known.and_then(|known| known.objects.stateful_set.as_ref());
        // One that was seen is changed, never made anew by a change meant for it.
        set.metadata.uid = seen.map(|seen| seen.uid.clone());
        Ok(manifest(Kind::StatefulSet, &set, seen.is_some()))
    }

    fn stop(&self, member: &str) -> Option<Call> {
        let set = self.roster.get(member)?.objects.stateful_set.as_ref()?;
        let stop = json!({"metadata": {"uid": set.uid}, "spec": {"replicas": 0}});
        Some(patch(Kind::StatefulSet, member.to_owned(), stop))
    }

    /// Status first, then the pod, then the claim. A pod that is gone for certain
    /// never had the ticket, so it is taken back: by the one who recorded it, and only
    /// if status has not changed since, for another operator may have handed it out.
    fn issue(&self, member: &str, paper: &TicketPaper) -> Result<Vec<Call>, String> {
        let ticket = Ticket {
            kind: paper.kind,
            pod_uid: paper.pod_uid.clone(),
            member_id: paper.member_id.clone(),
            handed: 1,
        };
        let status = self.roster.get(member).and_then(|known| known.status);
        let before = status.and_then(|line| line.ticket.as_ref());
        let name = member.to_owned();
        let handed = match before {
            Some(before) if !before.is_same(&ticket) => {
                return Err(format!(
                    "{member} already has a ticket, made out to pod {}",
                    before.pod_uid
                ));
            }
            Some(before) => before.handed.saturating_add(1),
            None => 1,
        };
        let record = Call::Record(Record::Ticket {
            member: name.clone(),
            ticket: Ticket { handed, ..ticket },
        });
        let text = serde_json::to_string(paper).expect("a ticket is JSON");
        let pod = Call::Patch {
            kind: Kind::Pod,
            name: identity::pod_name(member),
            patch: json!({
                "metadata": {"uid": paper.pod_uid, "annotations": {ANNOTATION_TICKET: text}},
            }),
            otherwise: before
                .is_none()
                .then_some(Record::TicketReturned { member: name }),
        };
        let ids = identity::parse_hex(&paper.cluster_id).zip(identity::parse_hex(&paper.member_id));
        Ok([record, pod]
            .into_iter()
            .chain(self.claim(member, ids))
            .collect())
    }

    /// The claim of a member as it should be, its size apart: growing is a step of
    /// its own.
    fn claim(&self, member: &str, ids: Option<(u64, u64)>) -> Option<Call> {
        let mut spec = self.cluster.spec.storage.persistent_volume_claim.clone()?;
        let seen = self.roster.get(member)?.objects.claim.as_ref()?;
        spec.size = seen.size.clone();
        let mut claim = render::claim(self.cluster, member, &spec, ids);
        claim.metadata.uid = Some(seen.uid.clone());
        Some(manifest(Kind::Claim, &claim, true))
    }

    /// The size that volumes have had so far, for the quota to follow until all have
    /// grown; recorded once.
    fn size_until_now(&self) -> Option<Call> {
        let status = self.cluster.status.as_ref()?;
        if status.volume_size.is_some() {
            return None;
        }
        let claims = self.roster.members.iter();
        let claims = claims.filter_map(|member| member.objects.claim.as_ref());
        let millis = |size: &String| Quantity(size.clone()).millis().unwrap_or(i128::MAX);
        let size = claims
            .map(|claim| &claim.size)
            .min_by_key(|size| millis(size))?;
        Some(Call::Record(Record::VolumeSize { size: size.clone() }))
    }

    fn patch_claim(&self, member: &str, spec: serde_json::Value) -> Option<Call> {
        let claim = self.roster.get(member)?.objects.claim.as_ref()?;
        let body = json!({"metadata": {"uid": claim.uid}, "spec": spec});
        Some(patch(Kind::Claim, identity::claim_name(member), body))
    }

    fn tag(&self, member: &str) -> Vec<Call> {
        let Some(known) = self.roster.get(member) else {
            return Vec::new();
        };
        let mut calls = Vec::new();
        if known.etcd.is_some() {
            let role = known.is_voter().then_some(ROLE_VOTER);
            if let Some(set) = &known.objects.stateful_set {
                let body = json!({
                    "metadata": {"uid": set.uid},
                    "spec": {"template": {"metadata": {"labels": {LABEL_ROLE: role}}}},
                });
                calls.push(patch(Kind::StatefulSet, member.to_owned(), body));
            }
            if let Some(pod) = known.pod() {
                let body = json!({"metadata": {"uid": pod.uid, "labels": {LABEL_ROLE: role}}});
                calls.push(patch(Kind::Pod, identity::pod_name(member), body));
            }
        }
        if let Some(claim) = &known.objects.claim {
            let serving = known.is_serving();
            let ids = if serving {
                self.roster.cluster_id.zip(known.id)
            } else {
                claim.cluster_id.zip(claim.member_id)
            };
            calls.extend(self.claim(member, ids));
        }
        calls
    }
}
