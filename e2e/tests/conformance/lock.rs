//! The service Lock.

use std::time::Duration;

use etcd_e2e::client::{get, prefix};
use etcd_e2e::errors::{EMPTY_KEY, LEASE_NOT_FOUND};
use etcd_e2e::watch::ANSWER_WITHIN;
use etcd_e2e::{Client, eventually};
use etcd_proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest};
use tokio::task::JoinHandle;
use tonic::{Code, Status};

use crate::pool::{server, three};

type Answer<T> = Result<T, Status>;

async fn lock(client: &Client, name: &str, lease: i64) -> Answer<LockResponse> {
    let request = LockRequest {
        name: name.to_owned().into(),
        lease,
    };
    Ok(client.locks().lock(request).await?.into_inner())
}

async fn unlock(client: &Client, key: &[u8]) -> Answer<i64> {
    let request = UnlockRequest {
        key: key.to_vec().into(),
    };
    let answer = client.locks().unlock(request).await?.into_inner();
    Ok(answer.header.unwrap().revision)
}

/// Asks for the lock beside the test, and returns once its key waits in the line.
async fn in_line(
    client: &Client,
    name: &'static str,
    lease: i64,
) -> JoinHandle<Answer<LockResponse>> {
    let asking = client.clone();
    let asked = tokio::spawn(async move { lock(&asking, name, lease).await });
    let key = format!("{name}/{lease:x}");
    eventually(ANSWER_WITHIN, "a key in the line", async || {
        let found = client.get(&key).await.unwrap();
        (found.count == 1).then_some(()).ok_or("no key yet")
    })
    .await;
    asked
}

async fn holds(asked: JoinHandle<Answer<LockResponse>>) -> LockResponse {
    let answered = tokio::time::timeout(ANSWER_WITHIN, asked).await;
    answered.expect("the lock is had in time").unwrap().unwrap()
}

#[tokio::test]
async fn b135_lock_blocks_until_unlock_and_the_revision_grows() {
    let server = server().await;
    let client = &server.client;
    let (first, second) = (11, 12);
    client.grant(60, first).await.unwrap();
    client.grant(60, second).await.unwrap();

    let held = lock(client, "b135", first).await.unwrap();
    assert_eq!(held.key, format!("b135/{first:x}"));
    let put_at = held.header.unwrap().revision;
    let kv = client.get(&held.key).await.unwrap().kvs.remove(0);
    assert_eq!((kv.lease, kv.value.len()), (first, 0));
    assert_eq!(kv.create_revision, put_at);

    let waiting = in_line(client, "b135", second).await;
    assert!(!waiting.is_finished(), "it is held by the first");
    let freed_at = unlock(client, &held.key).await.unwrap();
    let next = holds(waiting).await;
    assert_eq!(next.key, format!("b135/{second:x}"));
    let held_at = next.header.unwrap().revision;
    assert!(
        put_at < freed_at && freed_at <= held_at,
        "{put_at} {freed_at} {held_at}"
    );
    unlock(client, &next.key).await.unwrap();
}

#[tokio::test]
async fn b135_the_holder_asking_again_has_it_at_once() {
    let server = server().await;
    let client = &server.client;
    client.grant(60, 21).await.unwrap();
    let held = lock(client, "again", 21).await.unwrap();
    let again = lock(client, "again", 21).await.unwrap();
    assert_eq!(held.key, again.key);
    let line = client.range(prefix("again/")).await.unwrap();
    assert_eq!(line.count, 1);
}

#[tokio::test]
async fn b135_they_hold_it_in_the_order_in_which_they_asked() {
    let server = server().await;
    let client = &server.client;
    let mut waiting = Vec::new();
    // The lease IDs fall, so that their order is not the keys'.
    for lease in [39, 38, 37, 36] {
        client.grant(60, lease).await.unwrap();
        waiting.push((lease, in_line(client, "order", lease).await));
    }
    for (lease, asked) in waiting {
        let held = holds(asked).await;
        assert_eq!(held.key, format!("order/{lease:x}"));
        unlock(client, &held.key).await.unwrap();
    }
}

#[tokio::test]
async fn b135_without_a_lease_it_is_held_for_a_minute() {
    let server = server().await;
    let client = &server.client;
    let held = lock(client, "alone", 0).await.unwrap();
    let kv = client.get(&held.key).await.unwrap().kvs.remove(0);
    assert_eq!(held.key, format!("alone/{:x}", kv.lease));
    let lease = client.time_to_live(kv.lease, false).await.unwrap();
    assert_eq!(lease.granted_ttl, 60);
    unlock(client, &held.key).await.unwrap();
    assert_eq!(client.get(&held.key).await.unwrap().count, 0);
    client.revoke(kv.lease).await.unwrap();
}

#[tokio::test]
async fn b135_unlocking_what_is_not_held_changes_nothing() {
    let server = server().await;
    let client = &server.client;
    let before = client.revision().await.unwrap();
    assert_eq!(unlock(client, b"nothing").await.unwrap(), before);
    let error = unlock(client, b"").await.unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (Code::Unknown, EMPTY_KEY.text)
    );
}

#[tokio::test]
async fn b136_a_session_that_ends_while_it_waits_is_an_error() {
    let server = server().await;
    let client = &server.client;
    for lease in [41, 42] {
        client.grant(60, lease).await.unwrap();
    }
    let held = lock(client, "b136", 41).await.unwrap();
    let waiting = in_line(client, "b136", 42).await;
    client.revoke(42).await.unwrap();
    unlock(client, &held.key).await.unwrap();
    let error = tokio::time::timeout(ANSWER_WITHIN, waiting).await.unwrap();
    let error = error.unwrap().unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (Code::Unknown, "mutex: session is expired")
    );
    assert_eq!(client.range(prefix("b136/")).await.unwrap().count, 0);
}

#[tokio::test]
async fn b136_an_unknown_lease_locks_nothing() {
    let server = server().await;
    let client = &server.client;
    let error = lock(client, "unknown", 4_242).await.unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (Code::Unknown, LEASE_NOT_FOUND.text)
    );
    assert_eq!(client.range(prefix("unknown/")).await.unwrap().count, 0);
}

#[tokio::test]
async fn b136_who_stops_waiting_leaves_the_line() {
    let server = server().await;
    let client = &server.client;
    for lease in [51, 52, 53] {
        client.grant(60, lease).await.unwrap();
    }
    let held = lock(client, "leaves", 51).await.unwrap();
    let gives_up = in_line(client, "leaves", 52).await;
    let waits = in_line(client, "leaves", 53).await;
    gives_up.abort();
    eventually(ANSWER_WITHIN, "a shorter line", async || {
        let found = client.get(format!("leaves/{:x}", 52)).await.unwrap();
        (found.count == 0).then_some(()).ok_or("it is in the line")
    })
    .await;
    assert!(!waits.is_finished());
    unlock(client, &held.key).await.unwrap();
    assert_eq!(holds(waits).await.key, format!("leaves/{:x}", 53));
}

#[tokio::test]
async fn b140_a_name_waits_for_a_longer_one_only_below_its_slash() {
    let server = server().await;
    let client = &server.client;
    for lease in [61, 62] {
        client.grant(60, lease).await.unwrap();
    }
    let long = lock(client, "b140/more", 61).await.unwrap();
    // `b140/` is the beginning of the longer name's keys too: etcd lets them wait for each other.
    let waits = in_line(client, "b140", 62).await;
    assert!(!waits.is_finished());
    unlock(client, &long.key).await.unwrap();
    holds(waits).await;
    let sibling = lock(client, "b14", 61);
    let sibling = tokio::time::timeout(ANSWER_WITHIN, sibling).await;
    sibling.expect("b14 is another lock").unwrap();
}

#[tokio::test]
async fn b141_a_lock_passes_on_when_the_holders_session_ends() {
    let server = server().await;
    let client = &server.client;
    client.grant(2, 71).await.unwrap();
    client.grant(60, 72).await.unwrap();
    lock(client, "b141", 71).await.unwrap();
    let waits = in_line(client, "b141", 72).await;
    let held = tokio::time::timeout(Duration::from_secs(30), waits).await;
    let held = held.expect("the lease has run out").unwrap().unwrap();
    assert_eq!(held.key, format!("b141/{:x}", 72));
    assert_eq!(client.range(get("b141/47")).await.unwrap().count, 0);
}

#[tokio::test]
async fn b135_a_lock_is_one_whichever_member_is_asked() {
    let cluster = three().await;
    let clients: Vec<Client> = cluster
        .members
        .iter()
        .map(|member| member.client())
        .collect();
    for lease in [81, 82, 83] {
        clients[0].grant(60, lease).await.unwrap();
    }
    let held = lock(&clients[0], "members", 81).await.unwrap();
    let second = in_line(&clients[1], "members", 82).await;
    let third = in_line(&clients[2], "members", 83).await;
    unlock(&clients[2], &held.key).await.unwrap();
    let held = holds(second).await;
    assert!(!third.is_finished());
    unlock(&clients[0], &held.key).await.unwrap();
    holds(third).await;
}
