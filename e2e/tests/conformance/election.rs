//! The service Election.

use etcd_e2e::client::{delete, get, prefix, put};
use etcd_e2e::errors::LEASE_NOT_FOUND;
use etcd_e2e::watch::ANSWER_WITHIN;
use etcd_e2e::{Client, eventually};
use etcd_proto::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ResignRequest,
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;
use tonic::{Code, Status};

use crate::pool::server;

type Answer<T> = Result<T, Status>;

async fn campaign(client: &Client, name: &str, lease: i64, value: &str) -> Answer<LeaderKey> {
    let request = CampaignRequest {
        name: name.to_owned().into(),
        lease,
        value: value.to_owned().into(),
    };
    let won: CampaignResponse = client.elections().campaign(request).await?.into_inner();
    assert!(won.header.unwrap().revision > 0);
    Ok(won.leader.unwrap())
}

/// Campaigns beside the test, and returns once it is a candidate.
async fn candidate(
    client: &Client,
    name: &'static str,
    lease: i64,
    value: &'static str,
) -> JoinHandle<Answer<LeaderKey>> {
    let asking = client.clone();
    let asked = tokio::spawn(async move { campaign(&asking, name, lease, value).await });
    let key = format!("{name}/{lease:x}");
    eventually(ANSWER_WITHIN, "a candidate", async || {
        let found = client.get(&key).await.unwrap();
        (found.count == 1).then_some(()).ok_or("no candidate yet")
    })
    .await;
    asked
}

async fn won(asked: JoinHandle<Answer<LeaderKey>>) -> LeaderKey {
    let answered = tokio::time::timeout(ANSWER_WITHIN, asked).await;
    answered.expect("it is elected in time").unwrap().unwrap()
}

async fn leader(client: &Client, name: &str) -> Answer<LeaderResponse> {
    let request = LeaderRequest {
        name: name.to_owned().into(),
    };
    Ok(client.elections().leader(request).await?.into_inner())
}

async fn proclaim(client: &Client, leader: Option<LeaderKey>, value: &str) -> Answer<i64> {
    let request = ProclaimRequest {
        leader,
        value: value.to_owned().into(),
    };
    let answer = client.elections().proclaim(request).await?.into_inner();
    Ok(answer.header.unwrap().revision)
}

async fn resign(client: &Client, leader: Option<LeaderKey>) -> Answer<i64> {
    let request = ResignRequest { leader };
    let answer = client.elections().resign(request).await?.into_inner();
    Ok(answer.header.unwrap_or_default().revision)
}

/// What is observed, as it comes. Stock etcd does not answer at all before there is something.
fn observe(client: &Client, name: &str) -> UnboundedReceiver<LeaderResponse> {
    let request = LeaderRequest {
        name: name.to_owned().into(),
    };
    let (client, (told, observed)) = (client.clone(), unbounded_channel());
    tokio::spawn(async move {
        let mut answers = client.elections().observe(request).await?.into_inner();
        while let Some(answer) = answers.message().await? {
            if told.send(answer).is_err() {
                break;
            }
        }
        Answer::Ok(())
    });
    observed
}

/// What is observed next: the value, its revision, and the header's.
async fn next(observed: &mut UnboundedReceiver<LeaderResponse>) -> (String, i64, i64) {
    let message = tokio::time::timeout(ANSWER_WITHIN, observed.recv()).await;
    let message = message.expect("something to observe").unwrap();
    let kv = message.kv.unwrap();
    (
        String::from_utf8(kv.value.to_vec()).unwrap(),
        kv.mod_revision,
        message.header.unwrap().revision,
    )
}

async fn leases(client: &Client, ids: &[i64]) {
    for id in ids {
        client.grant(60, *id).await.unwrap();
    }
}

#[tokio::test]
async fn b137_campaign_blocks_until_the_leader_resigns() {
    let server = server().await;
    let client = &server.client;
    leases(client, &[11, 12]).await;
    let first = campaign(client, "b137", 11, "one").await.unwrap();
    assert_eq!(first.name, "b137");
    assert_eq!((first.key.as_ref(), first.lease), (&b"b137/b"[..], 11));
    let kv = client.get(&first.key).await.unwrap().kvs.remove(0);
    assert_eq!((kv.create_revision, kv.lease), (first.rev, 11));
    assert_eq!(kv.value, "one");

    let waits = candidate(client, "b137", 12, "two").await;
    let led = leader(client, "b137").await.unwrap().kv.unwrap();
    assert_eq!((led.key, led.value), (first.key.clone(), "one".into()));
    assert!(!waits.is_finished());

    let resigned = resign(client, Some(first.clone())).await.unwrap();
    let second = won(waits).await;
    assert!(second.rev < resigned, "it was a candidate before");
    let led = leader(client, "b137").await.unwrap();
    assert!(led.header.unwrap().revision >= resigned);
    assert_eq!(led.kv.unwrap().value, "two");
    resign(client, Some(second)).await.unwrap();
}

#[tokio::test]
async fn b137_without_a_leader_there_is_none() {
    let server = server().await;
    let client = &server.client;
    let error = leader(client, "nobody").await.unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (Code::Unknown, "election: no leader")
    );
}

#[tokio::test]
async fn b137_a_proclamation_is_the_leaders_alone() {
    let server = server().await;
    let client = &server.client;
    leases(client, &[21]).await;
    let key = campaign(client, "proclaims", 21, "one").await.unwrap();
    proclaim(client, Some(key.clone()), "two").await.unwrap();
    let led = leader(client, "proclaims").await.unwrap().kv.unwrap();
    assert_eq!((led.value.as_ref(), led.version), (&b"two"[..], 2));
    assert_eq!(led.lease, 21);

    resign(client, Some(key.clone())).await.unwrap();
    let error = proclaim(client, Some(key.clone()), "three").await;
    let error = error.unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (Code::Unknown, "election: not leader")
    );
    assert_eq!(client.get(&key.key).await.unwrap().count, 0);
    // Who has resigned may say so again.
    let before = client.revision().await.unwrap();
    assert_eq!(resign(client, Some(key)).await.unwrap(), before);
}

#[tokio::test]
async fn b137_a_leader_that_is_not_named_is_refused() {
    let server = server().await;
    let client = &server.client;
    for error in [
        proclaim(client, None, "x").await.unwrap_err(),
        resign(client, None).await.unwrap_err(),
    ] {
        assert_eq!(
            (error.code(), error.message()),
            (Code::Unknown, "\"leader\" field must be provided")
        );
    }
}

#[tokio::test]
async fn b137_campaigning_again_proclaims() {
    let server = server().await;
    let client = &server.client;
    leases(client, &[31]).await;
    let first = campaign(client, "again", 31, "one").await.unwrap();
    let again = campaign(client, "again", 31, "two").await.unwrap();
    assert_eq!((first.key.clone(), first.rev), (again.key, again.rev));
    let led = leader(client, "again").await.unwrap().kv.unwrap();
    assert_eq!((led.value.as_ref(), led.version), (&b"two"[..], 2));
    // The same once more is nothing new.
    campaign(client, "again", 31, "two").await.unwrap();
    let led = leader(client, "again").await.unwrap().kv.unwrap();
    assert_eq!(led.version, 2);
}

#[tokio::test]
async fn b137_an_unknown_lease_is_no_candidate() {
    let server = server().await;
    let client = &server.client;
    let error = campaign(client, "unknown", 4_242, "x").await.unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (Code::Unknown, LEASE_NOT_FOUND.text)
    );
    assert_eq!(client.range(prefix("unknown/")).await.unwrap().count, 0);
}

#[tokio::test]
async fn b139_who_observes_sees_each_leader_and_what_it_proclaims() {
    let server = server().await;
    let client = &server.client;
    leases(client, &[41, 42]).await;
    let mut observed = observe(client, "b139");
    let first = campaign(client, "b139", 41, "one").await.unwrap();
    let seen = next(&mut observed).await;
    assert_eq!(seen, ("one".to_owned(), first.rev, first.rev));
    let waits = candidate(client, "b139", 42, "two").await;
    let said = proclaim(client, Some(first.clone()), "one, again").await;
    let said = said.unwrap();
    assert_eq!(
        next(&mut observed).await,
        ("one, again".to_owned(), said, said)
    );
    resign(client, Some(first)).await.unwrap();
    let second = won(waits).await;
    let (value, revision, _) = next(&mut observed).await;
    assert_eq!((value.as_str(), revision), ("two", second.rev));
    resign(client, Some(second)).await.unwrap();
    let third = campaign(client, "b139", 41, "three").await.unwrap();
    let (value, revision, _) = next(&mut observed).await;
    assert_eq!((value.as_str(), revision), ("three", third.rev));
}

#[tokio::test]
async fn b139_observing_survives_a_compaction() {
    let server = server().await;
    let client = &server.client;
    leases(client, &[51]).await;
    let key = campaign(client, "compacted", 51, "one").await.unwrap();
    let mut observed = observe(client, "compacted");
    assert_eq!(next(&mut observed).await.0, "one");
    for _ in 0..10 {
        client.put_with(put("other", "v")).await.unwrap();
    }
    client
        .compact(client.revision().await.unwrap())
        .await
        .unwrap();
    proclaim(client, Some(key), "two").await.unwrap();
    assert_eq!(next(&mut observed).await.0, "two");
    // Who comes later begins with what holds now.
    client
        .compact(client.revision().await.unwrap())
        .await
        .unwrap();
    let mut late = observe(client, "compacted");
    assert_eq!(next(&mut late).await.0, "two");
}

#[tokio::test]
async fn b140_elections_whose_names_begin_alike_are_apart() {
    let server = server().await;
    let client = &server.client;
    leases(client, &[61, 62]).await;
    campaign(client, "foo1", 61, "one").await.unwrap();
    let other = campaign(client, "foo", 62, "two");
    let other = tokio::time::timeout(ANSWER_WITHIN, other).await;
    other.expect("foo is another election").unwrap();
    let led = leader(client, "foo").await.unwrap().kv.unwrap();
    assert_eq!(led.value, "two");
}

#[tokio::test]
async fn b141_a_session_that_ends_lets_the_next_lead() {
    let server = server().await;
    let client = &server.client;
    leases(client, &[71, 72]).await;
    let first = campaign(client, "b141", 71, "one").await.unwrap();
    let waits = candidate(client, "b141", 72, "two").await;
    client.revoke(71).await.unwrap();
    won(waits).await;
    assert_eq!(client.range(get(&first.key)).await.unwrap().count, 0);
    let led = leader(client, "b141").await.unwrap().kv.unwrap();
    assert_eq!(led.value, "two");
}

#[tokio::test]
async fn b141_a_candidate_that_gives_up_is_none() {
    let server = server().await;
    let client = &server.client;
    leases(client, &[81, 82]).await;
    let first = campaign(client, "gives-up", 81, "one").await.unwrap();
    let waits = candidate(client, "gives-up", 82, "two").await;
    waits.abort();
    eventually(ANSWER_WITHIN, "one candidate", async || {
        let found = client.range(prefix("gives-up/")).await.unwrap();
        (found.count == 1).then_some(()).ok_or("it is a candidate")
    })
    .await;
    client.delete(delete(&first.key)).await.unwrap();
    let error = leader(client, "gives-up").await.unwrap_err();
    assert_eq!(error.message(), "election: no leader");
}
