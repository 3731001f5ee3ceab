//! Several members of one cluster.

use std::time::Duration;

use anyhow::{Context, Result};
use etcd_proto::etcdserverpb::{
    Member, MemberAddRequest, MemberPromoteRequest, MemberRemoveRequest,
};
use tonic::Status;

use crate::client::{Answer, Client};
use crate::errors::{MEMBER_NOT_FOUND, MEMBER_NOT_LEARNER, PEER_URL_EXISTS};
use crate::process::{Options, Process};
use crate::wait::eventually;

/// How long a cluster may take to agree on something. Generous: other builds may share the machine.
pub const AGREES_WITHIN: Duration = Duration::from_secs(30);

/// Members that were started together, and those added later. The order is that of starting.
#[derive(Debug)]
pub struct Cluster {
    /// The members; a test may stop, pause and restart each.
    pub members: Vec<Process>,
    template: Options,
}

impl Cluster {
    /// Starts `size` members by static bootstrap, as `template` says but for names and lists, and waits until each is ready.
    ///
    /// # Errors
    /// If a member cannot be started or is not ready in time.
    pub async fn start(size: usize, template: Options) -> Result<Cluster> {
        Cluster::start_each(vec![template; size]).await
    }

    /// Starts a cluster of members that differ, for example of both targets.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub async fn start_each(templates: Vec<Options>) -> Result<Cluster> {
        let template = templates.first().context("a cluster has members")?.clone();
        let mut members = Vec::new();
        for (number, options) in templates.into_iter().enumerate() {
            let options = Options {
                name: format!("m{number}"),
                ..options
            };
            members.push(Process::prepare(options)?);
        }
        let list = list(&members);
        for member in &mut members {
            member.options().initial_cluster = Some(list.clone());
            member.spawn()?;
        }
        let mut cluster = Cluster { members, template };
        for member in &mut cluster.members {
            member.ready().await?;
        }
        Ok(cluster)
    }

    /// A client of each member.
    pub fn clients(&self) -> Vec<Client> {
        self.members.iter().map(Process::client).collect()
    }

    /// The client URLs of all members.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(Process::client_url).collect()
    }

    /// The position of the leader that a majority of `members` names, once there is one.
    ///
    /// # Panics
    /// If there is none within [`AGREES_WITHIN`].
    pub async fn leader(&self) -> usize {
        eventually(AGREES_WITHIN, "a leader", async || {
            let mut votes = std::collections::BTreeMap::<u64, usize>::new();
            let mut ids = Vec::new();
            for client in self.clients() {
                // A paused member answers nothing; it does not count.
                let status = tokio::time::timeout(Duration::from_secs(1), client.status()).await;
                let status = status.ok().and_then(Result::ok);
                ids.push(
                    status
                        .as_ref()
                        .map(|s| s.header.unwrap_or_default().member_id),
                );
                if let Some(status) = status.filter(|status| status.leader != 0) {
                    *votes.entry(status.leader).or_default() += 1;
                }
            }
            let chosen = votes
                .iter()
                .find(|(_, count)| **count > self.members.len() / 2)
                .map(|(id, _)| *id);
            let place = chosen.and_then(|id| ids.iter().position(|own| *own == Some(id)));
            place.ok_or_else(|| format!("leaders named: {votes:x?}, answers of: {ids:x?}"))
        })
        .await
    }

    /// The position of a member that is not leader.
    ///
    /// # Panics
    /// If there is no leader within [`AGREES_WITHIN`].
    pub async fn follower(&self) -> usize {
        let leader = self.leader().await;
        (leader + 1) % self.members.len()
    }

    /// The member ID of `members[place]`, as that member reports it.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn id(&self, place: usize) -> Answer<u64> {
        Ok(self.members[place]
            .client()
            .status()
            .await?
            .header
            .unwrap_or_default()
            .member_id)
    }

    /// Adds a member to the membership through `through` and prepares, but does not start, its process.
    ///
    /// Refusals that end by themselves (connections younger than 5 s) are waited out.
    ///
    /// # Errors
    /// If directory or ports cannot be had.
    ///
    /// # Panics
    /// If the cluster refuses for [`AGREES_WITHIN`].
    pub async fn add(&mut self, through: usize, is_learner: bool) -> Result<Member> {
        let name = format!("m{}", self.members.len());
        let mut process = Process::prepare(Options {
            name,
            initial_cluster_state: "existing",
            ..self.template.clone()
        })?;
        let client = self.members[through].client();
        let url = process.peer_url();
        let (member, members) = eventually(AGREES_WITHIN, "a member added", async || {
            let mut api = client.cluster();
            let added = api.member_add(limited(MemberAddRequest {
                peer_ur_ls: vec![url.clone()],
                is_learner,
            }));
            match added.await {
                Ok(_) => {}
                // An attempt that got no answer was applied after all.
                Err(status) if PEER_URL_EXISTS.matches(&status) => {}
                Err(status) => return Err(status),
            }
            let members = client.members().await?;
            let member = members
                .iter()
                .find(|member| member.peer_ur_ls == [url.clone()])
                .cloned();
            Ok((
                member.ok_or_else(|| Status::not_found("the new member is not listed"))?,
                members,
            ))
        })
        .await;
        let list: Vec<String> = members
            .iter()
            .map(|m| {
                let name = if m.id == member.id {
                    process.name()
                } else {
                    &m.name
                };
                format!("{name}={}", m.peer_ur_ls.join(","))
            })
            .collect();
        process.options().initial_cluster = Some(list.join(","));
        // Whom the new member asks must have heard of it. A member that cannot answer
        // now will not be asked either.
        for known in &mut self.members {
            if known.is_running() {
                let client = known.client();
                let told = tokio::time::timeout(Duration::from_secs(3), client.members());
                drop(told.await);
            }
        }
        self.members.push(process);
        Ok(member)
    }

    /// Removes the member `id` through `through`, waiting out refusals that end by themselves.
    ///
    /// # Panics
    /// If the cluster refuses for [`AGREES_WITHIN`].
    pub async fn remove(&self, through: usize, id: u64) {
        let client = self.members[through].client();
        eventually(AGREES_WITHIN, "a member removed", async || {
            match client
                .cluster()
                .member_remove(limited(MemberRemoveRequest { id }))
                .await
            {
                Ok(_) => Ok(()),
                // An attempt that got no answer was applied after all.
                Err(status) if MEMBER_NOT_FOUND.matches(&status) => Ok(()),
                Err(status) => Err(status),
            }
        })
        .await;
    }

    /// Promotes the learner `id` through `through`, waiting until it is in sync.
    ///
    /// # Panics
    /// If the cluster refuses for [`AGREES_WITHIN`].
    pub async fn promote(&self, through: usize, id: u64) {
        let client = self.members[through].client();
        eventually(AGREES_WITHIN, "a learner promoted", async || {
            match client
                .cluster()
                .member_promote(limited(MemberPromoteRequest { id }))
                .await
            {
                Ok(_) => Ok(()),
                // An attempt that got no answer was applied after all.
                Err(status) if MEMBER_NOT_LEARNER.matches(&status) => Ok(()),
                Err(status) => Err(status),
            }
        })
        .await;
    }

    /// Waits until every running member has applied what the most advanced one has, and compares their hashes.
    ///
    /// # Panics
    /// If they differ, or do not catch up within [`AGREES_WITHIN`].
    pub async fn equal(&mut self) {
        let running: Vec<usize> = (0..self.members.len())
            .filter(|i| self.members[*i].is_running())
            .collect();
        let clients: Vec<Client> = running.iter().map(|i| self.members[*i].client()).collect();
        eventually(AGREES_WITHIN, "equal hashes on all members", async || {
            let mut hashes = Vec::new();
            for client in &clients {
                let hash = client
                    .hash_kv(0)
                    .await
                    .map_err(|status| format!("{status:?}"))?;
                hashes.push((hash.hash_revision, hash.compact_revision, hash.hash));
            }
            if hashes.windows(2).all(|pair| pair[0] == pair[1]) {
                Ok(())
            } else {
                Err(format!("{hashes:?}"))
            }
        })
        .await;
    }
}

/// A leader silently drops a change of members proposed before the last one is applied, and
/// etcd then waits for it as long as the client does: ask for a while, and ask again.
fn limited<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(Duration::from_secs(3));
    request
}

fn list(members: &[Process]) -> String {
    members
        .iter()
        .map(|m| format!("{}={}", m.name(), m.peer_url()))
        .collect::<Vec<_>>()
        .join(",")
}
