//! A store that is full.

use etcd_e2e::client::{ZERO, delete_range};
use etcd_e2e::cluster::AGREES_WITHIN;
use etcd_e2e::errors::NO_SPACE;
use etcd_e2e::{Cluster, Options, eventually};
use etcd_proto::etcdserverpb::alarm_request::AlarmAction;
use etcd_proto::etcdserverpb::{AlarmType, DefragmentRequest};

#[tokio::test]
async fn s34_full_store_can_be_cleared() {
    let mut cluster = Cluster::start(3, Options::single().args(["--quota-backend-bytes=8388608"]))
        .await
        .unwrap();
    let clients = cluster.clients();
    let value = vec![b'v'; 128 << 10];
    let mut stored = 0;
    loop {
        match clients[stored % 3]
            .put(format!("fill/{stored}"), &value)
            .await
        {
            Ok(_) => stored += 1,
            Err(status) => {
                NO_SPACE.is(&status);
                break;
            }
        }
        assert!(stored < 400, "a quota of 8 MiB holds no 50 MiB");
    }
    // Every member refuses, and says so, also after a restart.
    for client in &clients {
        eventually(
            AGREES_WITHIN,
            "the alarm everywhere",
            async || match client.put("k", "v").await {
                Err(status) if NO_SPACE.matches(&status) => Ok(()),
                outcome => Err(format!("{outcome:?}")),
            },
        )
        .await;
        NO_SPACE.check(client.grant(60, 0).await);
        let status = client.status().await.unwrap();
        assert!(
            status.errors.iter().any(|error| error.contains("NOSPACE")),
            "{:?}",
            status.errors
        );
    }
    let alarms = clients[0]
        .alarm(AlarmAction::Get, 0, AlarmType::None)
        .await
        .unwrap()
        .alarms;
    assert!(
        !alarms.is_empty()
            && alarms
                .iter()
                .all(|alarm| alarm.alarm() == AlarmType::Nospace),
        "{alarms:?}"
    );
    cluster.members[0].restart().await.unwrap();
    NO_SPACE.check(clients[0].put("k", "v").await);
    // Reads, deletions, compaction and defragmentation go on, and make room.
    assert_eq!(clients[1].get("fill/0").await.unwrap().count, 1);
    let deleted = clients[1]
        .delete(delete_range("fill/", ZERO))
        .await
        .unwrap();
    // The put that was refused may have been stored all the same: the store was full when it was applied.
    let refused = deleted.deleted - i64::try_from(stored).unwrap();
    assert!((0..=1).contains(&refused), "{refused}");
    clients[1]
        .compact(deleted.header.unwrap().revision)
        .await
        .unwrap();
    for client in &clients {
        client
            .maintenance()
            .defragment(DefragmentRequest {})
            .await
            .unwrap();
    }
    for client in &clients {
        eventually(AGREES_WITHIN, "the space is given back", async || {
            let status = client.status().await.map_err(|status| status.to_string())?;
            if status.db_size < 4 << 20 {
                Ok(())
            } else {
                Err(format!("{} bytes", status.db_size))
            }
        })
        .await;
    }
    // Each member that refused a write has raised an alarm of its own, also while the first are cleared.
    for client in &clients {
        eventually(AGREES_WITHIN, "writes again", async || {
            for alarm in clients[2]
                .alarm(AlarmAction::Get, 0, AlarmType::None)
                .await?
                .alarms
            {
                clients[2]
                    .alarm(AlarmAction::Deactivate, alarm.member_id, AlarmType::Nospace)
                    .await?;
            }
            client.put("k", "v").await
        })
        .await;
    }
    cluster.equal().await;
}
