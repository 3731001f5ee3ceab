//! Moves leadership: one call to the member that leads.

use etcd_proto::etcdserverpb::{MoveLeaderRequest, maintenance_client::MaintenanceClient};
use kube::ResourceExt;

use crate::{
    api::{EtcdCluster, MemberRole, MemberStatus},
    identity,
};

use super::{
    PluginError, bundle, forward,
    members::{self, Answers},
    target::Target,
};

/// Moves leadership to `to`, or to the voter that is furthest. What was done, in words.
pub(super) async fn move_leader(
    target: &Target,
    cluster: &EtcdCluster,
    to: Option<&str>,
) -> Result<String, PluginError> {
    let answers = members::ask(target, cluster).await;
    if let Some(note) = &answers.note {
        return Err(PluginError::Leader(format!(
            "the member that leads cannot be asked; {note}"
        )));
    }
    let Turn { from, to } = match choose(cluster, &answers, to)? {
        Choice::Turn(turn) => turn,
        Choice::LeadsAlready(member) => return Ok(format!("{member} leads already")),
    };
    let bundle = bundle::read(target, cluster).await?;
    let channel = forward::channel(target, cluster, &from, bundle.as_ref()).await?;
    let id = to.id.as_deref().and_then(identity::parse_hex);
    let request = MoveLeaderRequest {
        target_id: id.unwrap_or_default(),
    };
    let moved = MaintenanceClient::new(channel).move_leader(request).await;
    moved.map_err(|status| PluginError::Member {
        member: from.clone(),
        why: format!(
            "does not hand leadership to {}: {}",
            to.name,
            status.message()
        ),
    })?;
    Ok(format!("leadership moved from {from} to {}", to.name))
}

/// Who hands over to whom.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Turn {
    pub(super) from: String,
    pub(super) to: MemberStatus,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant)] // there is one, once
pub(super) enum Choice {
    Turn(Turn),
    LeadsAlready(String),
}

/// Decides by what members say, not by status, which may be a minute old.
pub(super) fn choose(
    cluster: &EtcdCluster,
    answers: &Answers,
    to: Option<&str>,
) -> Result<Choice, PluginError> {
    let name = cluster.name_any();
    let refused = |text: String| Err(PluginError::Leader(text));
    let heard = |member: &str| {
        answers
            .members
            .get(member)
            .and_then(|said| said.as_ref().ok())
    };
    let Some(from) = answers
        .members
        .iter()
        .filter_map(|(name, said)| Some((name, said.as_ref().ok()?)))
        .filter(|(_, figures)| figures.leads)
        .max_by_key(|(_, figures)| figures.raft_term)
        .map(|(name, _)| name.clone())
    else {
        return refused(format!("no member of {name} says that it leads"));
    };
    let lines = cluster.status.iter().flat_map(|status| &status.members);
    let voters: Vec<&MemberStatus> = lines
        .filter(|line| line.role == MemberRole::Voter)
        .collect();
    if let Some(wanted) = to {
        let wanted = wanted
            .strip_suffix("-0")
            .filter(|short| {
                // The pod's name will do too.
                voters.iter().any(|voter| voter.name == *short)
                    && !voters.iter().any(|voter| voter.name == wanted)
            })
            .unwrap_or(wanted);
        if wanted == from {
            return Ok(Choice::LeadsAlready(from));
        }
        let Some(voter) = voters.iter().find(|voter| voter.name == wanted) else {
            let names: Vec<&str> = voters.iter().map(|voter| voter.name.as_str()).collect();
            return refused(format!(
                "{wanted} is no voter of {name}; its voters are {}",
                names.join(", ")
            ));
        };
        if let Some(Err(why)) = answers.members.get(wanted) {
            return refused(format!("{wanted} cannot lead, it does not answer: {why}"));
        }
        let to = MemberStatus::clone(voter);
        return Ok(Choice::Turn(Turn { from, to }));
    }
    let next = voters
        .iter()
        .filter(|voter| voter.name != from)
        .filter_map(|voter| Some((voter, heard(&voter.name)?)))
        .max_by_key(|(_, figures)| figures.raft_index);
    match next {
        Some((voter, _)) => Ok(Choice::Turn(Turn {
            from,
            to: MemberStatus::clone(voter),
        })),
        None if voters.len() < 2 => refused(format!(
            "{from} is the only voter of {name}: nobody else can lead"
        )),
        None => refused(format!("no other voter of {name} answers")),
    }
}
