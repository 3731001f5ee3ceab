//! Asks every member what only it knows: raft's figures, sizes, alarms.

use std::{collections::BTreeMap, time::Duration};

use etcd_proto::etcdserverpb::{StatusRequest, maintenance_client::MaintenanceClient};
use futures::future::join_all;
use serde::Serialize;

use crate::{
    api::{EtcdCluster, MemberRole},
    identity,
};

use super::{PluginError, bundle, forward, target::Target};

/// All of it together must not take longer.
const PATIENCE: Duration = Duration::from_secs(8);

/// What a member says of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Figures {
    /// Its member ID, hex.
    pub(super) id: String,
    /// Whether it leads.
    pub(super) leads: bool,
    /// Member ID of the leader it knows, hex; `0` for none.
    pub(super) leader: String,
    /// Raft term.
    pub(super) raft_term: u64,
    /// Index of its last log entry.
    pub(super) raft_index: u64,
    /// Index it has applied.
    pub(super) raft_applied: u64,
    /// Bytes of its store on disk.
    pub(super) db_size_bytes: i64,
    /// Bytes of that in use.
    pub(super) db_size_in_use_bytes: i64,
    /// Alarms and errors it names.
    pub(super) errors: Vec<String>,
}

/// What all members say, by name; or why they were not heard.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Answers {
    pub(super) members: BTreeMap<String, Result<Figures, String>>,
    /// What is left out and why, if it is the same for all.
    pub(super) note: Option<String>,
}

/// Asks all that run at once.
pub(super) async fn ask(target: &Target, cluster: &EtcdCluster) -> Answers {
    let bundle = match bundle::read(target, cluster).await {
        Ok(bundle) => bundle,
        Err(error) => {
            return Answers {
                note: Some(format!("raft's figures are left out: {error}")),
                ..Answers::default()
            };
        }
    };
    let names: Vec<&str> = cluster
        .status
        .iter()
        .flat_map(|status| &status.members)
        .filter(|member| member.role != MemberRole::Removed && member.id.is_some())
        .map(|member| member.name.as_str())
        .collect();
    let answers = join_all(names.iter().map(|name| async {
        let one = one(target, cluster, name, bundle.as_ref());
        match tokio::time::timeout(PATIENCE, one).await {
            Ok(answer) => answer,
            Err(_) => Err(PluginError::Member {
                member: (*name).to_owned(),
                why: format!("no answer within {} s", PATIENCE.as_secs()),
            }),
        }
    }))
    .await;
    collect(names.into_iter().map(str::to_owned).zip(answers))
}

/// Puts answers together; a right that is missing is missing for all.
fn collect(answers: impl Iterator<Item = (String, Result<Figures, PluginError>)>) -> Answers {
    let mut all = Answers::default();
    for (name, answer) in answers {
        let said = match answer {
            Ok(figures) => Ok(figures),
            Err(error @ (PluginError::Forbidden { .. } | PluginError::Unauthorized { .. })) => {
                all.note = Some(format!("raft's figures are left out: {error}"));
                continue;
            }
            Err(PluginError::Member { why, .. } | PluginError::Kube { why, .. }) => Err(why),
            Err(error) => Err(error.to_string()),
        };
        all.members.insert(name, said);
    }
    all
}

async fn one(
    target: &Target,
    cluster: &EtcdCluster,
    member: &str,
    bundle: Option<&bundle::Bundle>,
) -> Result<Figures, PluginError> {
    let channel = forward::channel(target, cluster, member, bundle).await?;
    let refused = |status: tonic::Status| PluginError::Member {
        member: member.to_owned(),
        why: status.message().to_owned(),
    };
    let said = MaintenanceClient::new(channel)
        .status(StatusRequest {})
        .await
        .map_err(refused)?
        .into_inner();
    let id = said
        .header
        .as_ref()
        .map(|header| header.member_id)
        .unwrap_or_default();
    Ok(Figures {
        id: identity::hex(id),
        leads: said.leader != 0 && said.leader == id,
        leader: identity::hex(said.leader),
        raft_term: said.raft_term,
        raft_index: said.raft_index,
        raft_applied: said.raft_applied_index,
        db_size_bytes: said.db_size,
        db_size_in_use_bytes: said.db_size_in_use,
        errors: said.errors,
    })
}
