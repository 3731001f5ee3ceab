//! Elections where we are stricter than etcd.

use etcd_e2e::client::{delete, prefix};
use etcd_e2e::watch::ANSWER_WITHIN;
use etcd_e2e::{Client, Options, Process, Target, eventually};
use etcd_proto::v3electionpb::{CampaignRequest, LeaderRequest};
use tonic::{Code, Status};

async fn ours() -> (Process, Client) {
    let options = Options {
        target: Target::Ours,
        ..Options::single()
    };
    let server = Process::start(options).await.unwrap();
    let client = server.client();
    (server, client)
}

async fn campaign(client: Client, name: &'static str, lease: i64) -> Result<(), Status> {
    let request = CampaignRequest {
        name: name.into(),
        lease,
        value: "here".into(),
    };
    client.elections().campaign(request).await.map(drop)
}

/// Stock etcd ends the stream of one who waits for a first leader meanwhile.
#[tokio::test]
async fn b139_who_waits_for_a_leader_outlasts_a_compaction() {
    let (_server, client) = ours().await;
    client.grant(60, 1).await.unwrap();
    let name = LeaderRequest {
        name: "b139".into(),
    };
    let mut observed = client.elections().observe(name).await.unwrap().into_inner();
    for _ in 0..10 {
        client.put("other", "v").await.unwrap();
    }
    client
        .compact(client.revision().await.unwrap())
        .await
        .unwrap();
    campaign(client, "b139", 1).await.unwrap();
    let told = tokio::time::timeout(ANSWER_WITHIN, observed.message()).await;
    let told = told.unwrap().unwrap().unwrap();
    assert_eq!(told.kv.unwrap().value, "here");
}

/// Stock etcd says of a candidate whose lease ended while it waited that it leads.
#[tokio::test]
async fn b137_a_candidate_whose_session_ended_is_not_told_that_it_leads() {
    let (_server, client) = ours().await;
    client.grant(60, 1).await.unwrap();
    client.grant(60, 2).await.unwrap();
    campaign(client.clone(), "b137", 1).await.unwrap();
    let waiting = tokio::spawn(campaign(client.clone(), "b137", 2));
    eventually(ANSWER_WITHIN, "two candidates", async || {
        let found = client.range(prefix("b137/")).await.unwrap();
        (found.count == 2).then_some(()).ok_or(found.count)
    })
    .await;
    client.revoke(2).await.unwrap();
    client.delete(delete("b137/1")).await.unwrap();
    let answered = tokio::time::timeout(ANSWER_WITHIN, waiting).await;
    let error = answered.unwrap().unwrap().unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (Code::Unknown, "election: session is expired")
    );
}
