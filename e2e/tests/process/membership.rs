//! Members added, changed and removed while something is wrong.

use std::time::Duration;

use etcd_e2e::cluster::AGREES_WITHIN;
use etcd_e2e::errors::UNHEALTHY;
use etcd_e2e::{Client, Cluster, Options, eventually};
use etcd_proto::etcdserverpb::{Member, MemberAddRequest, MemberListRequest, MemberUpdateRequest};
use tonic::Status;

/// A URL that nobody listens at.
const WRONG: &str = "http://127.0.0.1:1";

async fn add(client: &Client, url: &str) -> Result<Member, Status> {
    let request = MemberAddRequest {
        peer_ur_ls: vec![url.to_owned()],
        is_learner: false,
    };
    let added = client.cluster().member_add(request).await?.into_inner();
    Ok(added.member.unwrap())
}

/// The members as this one knows them by itself.
async fn known(client: &Client) -> Result<Vec<Member>, Status> {
    let request = MemberListRequest {
        linearizable: false,
    };
    Ok(client
        .cluster()
        .member_list(request)
        .await?
        .into_inner()
        .members)
}

#[tokio::test]
async fn s23_a_member_with_a_wrong_url_costs_no_quorum_and_is_removable() {
    let cluster = Cluster::start(3, Options::single()).await.unwrap();
    let leader = cluster.leader().await;
    let (away, through) = ((leader + 1) % 3, (leader + 2) % 3);
    let client = cluster.members[through].client();
    // With one member away a fourth that may never come would leave no quorum.
    cluster.members[away].pause().unwrap();
    eventually(
        AGREES_WITHIN,
        "the addition is refused",
        async || match add(&client, WRONG).await {
            Err(status) if UNHEALTHY.matches(&status) => Ok(()),
            outcome => Err(format!("{outcome:?}")),
        },
    )
    .await;
    client.put("k", "partition").await.unwrap();
    cluster.members[away].resume().unwrap();
    // With all three it is let in, and its wrong URL stops nobody.
    let member = eventually(AGREES_WITHIN, "a member added", async || {
        add(&client, WRONG).await
    })
    .await;
    for client in &cluster.clients() {
        client.put("k", "four").await.unwrap();
        eventually(AGREES_WITHIN, "four members", async || {
            match known(client).await.map_err(|e| e.to_string())?.len() {
                4 => Ok(()),
                n => Err(format!("{n}")),
            }
        })
        .await;
    }
    // One more away: three of four are needed, two are left. The wrong one must go first.
    cluster.remove(through, member.id).await;
    cluster.members[away].pause().unwrap();
    client.put("k", "three").await.unwrap();
    cluster.members[away].resume().unwrap();
    let back = cluster.members[away].client();
    eventually(
        AGREES_WITHIN,
        "three members again",
        async || match known(&back).await.map_err(|e| e.to_string())?.len() {
            3 => Ok(()),
            n => Err(format!("{n}")),
        },
    )
    .await;
    back.put("k", "end").await.unwrap();
}

#[tokio::test]
async fn s23_a_wrong_url_is_corrected_before_the_member_starts() {
    let mut cluster = Cluster::start(3, Options::single()).await.unwrap();
    let leader = cluster.leader().await;
    let client = cluster.members[leader].client();
    let member = cluster.add(leader, true).await.unwrap();
    let right = cluster.members[3].peer_url();
    let update = async |url: &str| {
        let request = MemberUpdateRequest {
            id: member.id,
            peer_ur_ls: vec![url.to_owned()],
        };
        client.cluster().member_update(request).await.unwrap();
    };
    update(WRONG).await;
    client.put("k", "v").await.unwrap();
    update(&right).await;
    cluster.members[3].spawn().unwrap();
    cluster.promote(leader, member.id).await;
    cluster.members[3].ready().await.unwrap();
    cluster.equal().await;
}

#[tokio::test]
async fn s24_roles_agree_everywhere_after_promotion_update_and_restart() {
    let mut cluster = Cluster::start(3, Options::single()).await.unwrap();
    let leader = cluster.leader().await;
    let learner = cluster.add(leader, true).await.unwrap();
    cluster.members[3].spawn().unwrap();
    cluster.members[3].serving().await.unwrap();
    agree(&mut cluster, Some(learner.id)).await;
    // A learner stays one over an update and a restart.
    let client = cluster.members[leader].client();
    let urls = vec![cluster.members[3].peer_url(), WRONG.to_owned()];
    let request = MemberUpdateRequest {
        id: learner.id,
        peer_ur_ls: urls,
    };
    client.cluster().member_update(request).await.unwrap();
    cluster.members[3].kill();
    cluster.members[3].spawn().unwrap();
    cluster.members[3].serving().await.unwrap();
    agree(&mut cluster, Some(learner.id)).await;

    cluster.promote(leader, learner.id).await;
    agree(&mut cluster, None).await;
    for member in &mut cluster.members {
        member.kill();
    }
    for member in &mut cluster.members {
        member.spawn().unwrap();
    }
    for member in &mut cluster.members {
        member.ready().await.unwrap();
    }
    agree(&mut cluster, None).await;
    // It has its vote: of four, three decide.
    cluster.members[(leader + 1) % 3].kill();
    let client = cluster.members[3].client();
    eventually(AGREES_WITHIN, "a write by three of four", async || {
        let put = tokio::time::timeout(Duration::from_secs(2), client.put("k", "v"));
        match put.await {
            Ok(answer) => answer.map(drop).map_err(|e| e.to_string()),
            Err(_) => Err("no answer".to_owned()),
        }
    })
    .await;
}

/// Waits until all members know the same members, with this learner, and each its own role.
async fn agree(cluster: &mut Cluster, learner: Option<u64>) {
    let clients = cluster.clients();
    eventually(AGREES_WITHIN, "one membership", async || {
        let mut lists = Vec::new();
        for client in &clients {
            let members = known(client).await.map_err(|e| e.to_string())?;
            let status = client.status().await.map_err(|e| e.to_string())?;
            let id = status.header.unwrap_or_default().member_id;
            if status.is_learner != (Some(id) == learner) {
                return Err(format!("{id:x} has the wrong role"));
            }
            lists.push(members);
        }
        let learners: Vec<u64> = lists[0]
            .iter()
            .filter(|m| m.is_learner)
            .map(|m| m.id)
            .collect();
        let same = lists.windows(2).all(|pair| pair[0] == pair[1]);
        if same && learners == Vec::from_iter(learner) {
            Ok(())
        } else {
            Err(format!("{lists:#?}"))
        }
    })
    .await;
}
