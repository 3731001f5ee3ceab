//! A cluster as a person wants to see it: pure, from the EtcdCluster, what its members
//! said, and the time.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use serde::Serialize;

use crate::api::{
    EtcdCluster, MemberRole, MemberStatus, PeerStage, Plaintext, PlanStatus, TlsMode, TlsStatus,
};

use super::{
    advice::advice,
    members::{Answers, Figures},
    restores::{RestoreView, under_way},
};

/// A cluster. What `-o json` and `-o yaml` print; all of it is from the EtcdCluster,
/// except what stands under a member's `asked`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct View {
    pub(super) name: String,
    pub(super) namespace: String,
    /// In one word what is going on; `Unknown` before the operator's first look.
    pub(super) phase: String,
    pub(super) ready: i32,
    pub(super) desired: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) image: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", rename = "clusterID")]
    pub(super) cluster_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) leader: Option<String>,
    pub(super) generation: i64,
    pub(super) observed_generation: i64,
    pub(super) age_seconds: i64,
    /// How clients and members talk, in words.
    pub(super) tls: String,
    pub(super) members: Vec<MemberView>,
    /// Restores of it that are not over.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) restores: Vec<RestoreView>,
    pub(super) plan: PlanStatus,
    pub(super) conditions: Vec<ConditionView>,
    /// What a human should do; empty if nothing.
    pub(super) advice: Vec<String>,
    /// What is not shown, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) note: Option<String>,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MemberView {
    pub(super) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<String>,
    pub(super) role: MemberRole,
    pub(super) healthy: bool,
    pub(super) leads: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<String>,
    /// What it said itself, just now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) asked: Option<Figures>,
    /// Why it is not well, by the operator, or why it was not heard just now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) messages: Vec<String>,
}

/// A condition.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConditionView {
    #[serde(rename = "type")]
    pub(super) type_: String,
    pub(super) status: String,
    pub(super) reason: String,
    pub(super) message: String,
    /// Seconds since it last turned.
    pub(super) since_seconds: i64,
}

impl ConditionView {
    pub(super) fn new(condition: &Condition, now: Timestamp) -> ConditionView {
        let since = condition.last_transition_time.0;
        ConditionView {
            type_: condition.type_.clone(),
            status: condition.status.clone(),
            reason: condition.reason.clone(),
            message: condition.message.clone(),
            since_seconds: (now.as_second() - since.as_second()).max(0),
        }
    }
}

impl View {
    /// The view of a cluster; without `answers` its members were not asked.
    pub(super) fn new(cluster: &EtcdCluster, answers: Option<&Answers>, now: Timestamp) -> View {
        let status = cluster.status.clone().unwrap_or_default();
        let seconds = |then: Timestamp| (now.as_second() - then.as_second()).max(0);
        let created = cluster.metadata.creation_timestamp.as_ref();
        let phase = match status.phase {
            Some(phase) => format!("{phase:?}"),
            None => "Unknown".to_owned(),
        };
        let members: Vec<MemberView> = status
            .members
            .iter()
            .map(|line| member(line, status.leader.as_deref(), answers))
            .collect();
        let mut view = View {
            name: cluster.name_any(),
            namespace: cluster.namespace().unwrap_or_default(),
            phase,
            ready: status.ready_replicas,
            desired: cluster.spec.replicas,
            version: status.version,
            image: status.image,
            cluster_id: status.cluster_id,
            leader: status.leader,
            generation: cluster.metadata.generation.unwrap_or_default(),
            observed_generation: status.observed_generation,
            age_seconds: created.map_or(0, |created| seconds(created.0)),
            tls: tls(status.tls.as_ref()),
            members,
            restores: under_way(status.restore.as_ref(), now),
            plan: status.plan.unwrap_or_default(),
            conditions: status
                .conditions
                .iter()
                .map(|condition| ConditionView::new(condition, now))
                .collect(),
            advice: Vec::new(),
            note: answers.and_then(|answers| answers.note.clone()),
        };
        // Members know better than a status that may be a minute old.
        if let Some(leads) = view
            .members
            .iter()
            .filter(|member| member.leads)
            .filter_map(|member| Some((member.asked.as_ref()?.raft_term, &member.name)))
            .max()
        {
            view.leader = Some(leads.1.clone());
        }
        view.advice = advice(&view);
        view
    }

    /// The condition of that type.
    pub(super) fn condition(&self, type_: &str) -> Option<&ConditionView> {
        self.conditions
            .iter()
            .find(|condition| condition.type_ == type_)
    }

    /// Whether the condition of that type is true.
    pub(super) fn is(&self, type_: &str) -> bool {
        self.condition(type_)
            .is_some_and(|condition| condition.status == "True")
    }
}

/// How clients and members talk, and where their certificates come from.
fn tls(tls: Option<&TlsStatus>) -> String {
    let origin = |mode: TlsMode, secret: &Option<String>| match (mode, secret) {
        (TlsMode::Disabled, _) => "nowhere".to_owned(),
        (TlsMode::Operator, _) => "the operator".to_owned(),
        (TlsMode::CertManager, _) => "cert-manager".to_owned(),
        (TlsMode::Secret, secret) => format!("Secret {}", secret.as_deref().unwrap_or("?")),
    };
    let clients = match tls.and_then(|tls| tls.client.as_ref()) {
        None => "none for clients".to_owned(),
        Some(client) => {
            let also = match client.plaintext {
                Plaintext::Allowed => ", who may go without",
                Plaintext::Denied => "",
            };
            format!(
                "for clients by {}{also}",
                origin(client.mode, &client.secret)
            )
        }
    };
    let peers = match tls.and_then(|tls| tls.peer.as_ref()) {
        None => "none among members".to_owned(),
        Some(peer) if peer.stage == PeerStage::Prepared => {
            "none among members, who have certificates".to_owned()
        }
        Some(peer) => format!("among members by {}", origin(peer.mode, &peer.secret)),
    };
    format!("{clients}; {peers}")
}

fn member(line: &MemberStatus, leader: Option<&str>, answers: Option<&Answers>) -> MemberView {
    let said = answers.and_then(|answers| answers.members.get(&line.name));
    let asked = said.and_then(|said| said.as_ref().ok()).cloned();
    let leads = match &asked {
        Some(figures) => figures.leads,
        None => leader == Some(line.name.as_str()),
    };
    let mut messages: Vec<String> = line.message.iter().cloned().collect();
    if let Some(Err(why)) = said {
        messages.push(format!("does not answer: {why}"));
    }
    MemberView {
        name: line.name.clone(),
        id: line.id.clone(),
        role: line.role,
        healthy: line.healthy,
        leads,
        version: line.version.clone(),
        asked,
        messages,
    }
}
