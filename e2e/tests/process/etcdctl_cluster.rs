//! Stock etcdctl against three members.

use etcd_e2e::cluster::AGREES_WITHIN;
use etcd_e2e::{Cluster, Etcdctl, Options, eventually, stock};
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test]
async fn etcdctl_endpoints_of_a_cluster() {
    let mut cluster = Cluster::start(3, Options::single()).await.unwrap();
    let all = Etcdctl::new(&cluster.endpoints()).unwrap();
    all.run(&["put", "a", "1"]).await.unwrap();
    cluster.equal().await;

    let listed = json(&all.run(&["member", "list", "-w", "json"]).await.unwrap());
    let mut names: Vec<&str> = listed["members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|member| member["name"].as_str().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["m0", "m1", "m2"]);
    let lines = all.run(&["member", "list"]).await.unwrap();
    assert_eq!(
        lines
            .lines()
            .filter(|line| line.contains(", started, m") && line.ends_with(", false"))
            .count(),
        3,
        "{lines}"
    );

    let health = json(
        &all.run(&["endpoint", "health", "-w", "json"])
            .await
            .unwrap(),
    );
    let health = health.as_array().unwrap();
    assert_eq!(health.len(), 3);
    assert!(
        health.iter().all(|entry| entry["health"] == true),
        "{health:?}"
    );

    // From one endpoint it finds the others.
    let one = Etcdctl::new(&cluster.endpoints()[..1]).unwrap();
    let status = json(
        &one.run(&["endpoint", "status", "--cluster", "-w", "json"])
            .await
            .unwrap(),
    );
    let status = status.as_array().unwrap();
    assert_eq!(status.len(), 3);
    let leaders: Vec<&Value> = status
        .iter()
        .map(|entry| &entry["Status"]["leader"])
        .collect();
    assert!(
        leaders.iter().all(|leader| *leader == leaders[0]),
        "{leaders:?}"
    );
    assert!(
        status
            .iter()
            .all(|entry| entry["Status"]["version"] == stock::VERSION)
    );

    let hashes = json(
        &all.run(&["endpoint", "hashkv", "-w", "json"])
            .await
            .unwrap(),
    );
    let hashes: Vec<&Value> = hashes
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| &entry["HashKV"]["hash"])
        .collect();
    assert_eq!(hashes.len(), 3);
    assert!(
        hashes
            .iter()
            .all(|hash| *hash == hashes[0] && hash.as_u64().unwrap() != 0),
        "{hashes:?}"
    );

    let table = all
        .run(&["endpoint", "status", "-w", "table"])
        .await
        .unwrap();
    assert_eq!(
        table
            .lines()
            .filter(|line| line.contains("127.0.0.1"))
            .count(),
        3,
        "{table}"
    );
    let defragmented = all.run(&["defrag", "--cluster"]).await.unwrap();
    assert_eq!(
        defragmented.matches("Finished defragmenting").count(),
        3,
        "{defragmented}"
    );
}

#[tokio::test]
async fn etcdctl_moves_the_leader() {
    let cluster = Cluster::start(3, Options::single()).await.unwrap();
    let all = Etcdctl::new(&cluster.endpoints()).unwrap();
    let leader = cluster.leader().await;
    let old = cluster.id(leader).await.unwrap();
    let target = cluster.id((leader + 1) % 3).await.unwrap();
    let moved = all
        .run(&["move-leader", &format!("{target:x}")])
        .await
        .unwrap();
    assert_eq!(
        moved,
        format!("Leadership transferred from {old:x} to {target:x}\n")
    );
    let now = cluster.leader().await;
    assert_eq!(cluster.id(now).await.unwrap(), target);
}

#[tokio::test]
async fn etcdctl_grows_and_shrinks_a_cluster() {
    let mut cluster = Cluster::start(1, Options::single()).await.unwrap();
    let first = Etcdctl::new(&cluster.endpoints()).unwrap();
    first.run(&["put", "a", "1"]).await.unwrap();
    // The process is prepared by the library, the change is made by etcdctl.
    let member = cluster.add(0, true).await.unwrap();
    let id = format!("{:x}", member.id);
    let unstarted = first.run(&["member", "list"]).await.unwrap();
    assert!(
        unstarted.contains(&format!("{id}, unstarted, , ")),
        "{unstarted}"
    );
    cluster.members[1].spawn().unwrap();
    cluster.members[1].serving().await.unwrap();
    eventually(AGREES_WITHIN, "etcdctl promotes the learner", async || {
        first
            .run(&["member", "promote", &id])
            .await
            .map_err(|error| error.to_string())
    })
    .await;
    cluster.members[1].ready().await.unwrap();
    let both = Etcdctl::new(&cluster.endpoints()).unwrap();
    assert_eq!(both.run(&["get", "a"]).await.unwrap(), "a\n1\n");
    let updated = eventually(AGREES_WITHIN, "etcdctl updates the member", async || {
        let urls = format!("--peer-urls={}", cluster.members[1].peer_url());
        both.run(&["member", "update", &id, &urls])
            .await
            .map_err(|error| error.to_string())
    })
    .await;
    assert!(
        updated.starts_with(&format!("Member {id} updated in cluster ")),
        "{updated}"
    );
    let removed = eventually(AGREES_WITHIN, "etcdctl removes the member", async || {
        first
            .run(&["member", "remove", &id])
            .await
            .map_err(|error| error.to_string())
    })
    .await;
    assert!(
        removed.starts_with(&format!("Member {id} removed from cluster ")),
        "{removed}"
    );
    cluster.members[1].exit(AGREES_WITHIN).await.unwrap();
    assert_eq!(first.run(&["put", "a", "2"]).await.unwrap(), "OK\n");
    assert_eq!(
        first
            .run(&["member", "list"])
            .await
            .unwrap()
            .lines()
            .count(),
        1
    );
}
