//! Stock etcdctl against one member.

use std::time::Duration;

use etcd_e2e::stock;
use etcd_e2e::{Etcdctl, Etcdutl, Options, Process, Target, eventually};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::ChildStdout;

const WITHIN: Duration = Duration::from_secs(20);

async fn one() -> (Process, Etcdctl) {
    let server = Process::start(Options::single()).await.unwrap();
    let etcdctl = Etcdctl::new(&[server.client_url()]).unwrap();
    (server, etcdctl)
}

/// The storage's version is settled a little after the start.
async fn settled(server: &Process) {
    let client = server.client();
    eventually(WITHIN, "the storage version", async || {
        let version = client
            .status()
            .await
            .map_err(|status| status.to_string())?
            .storage_version;
        if version == "3.7.0" {
            Ok(())
        } else {
            Err(version)
        }
    })
    .await;
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test]
async fn etcdctl_put_get_del() {
    let (_server, etcdctl) = one().await;
    assert_eq!(etcdctl.run(&["put", "a", "1"]).await.unwrap(), "OK\n");
    assert_eq!(
        etcdctl.run(&["put", "--prev-kv", "a", "2"]).await.unwrap(),
        "OK\na\n1\n"
    );
    assert_eq!(
        etcdctl.run_with(&["put", "b"], "from stdin").await.unwrap(),
        "OK\n"
    );
    assert_eq!(etcdctl.run(&["get", "a"]).await.unwrap(), "a\n2\n");
    assert_eq!(
        etcdctl
            .run(&["get", "--prefix", "", "--print-value-only"])
            .await
            .unwrap(),
        "2\nfrom stdin\n"
    );
    assert_eq!(
        etcdctl
            .run(&["get", "a", "c", "--keys-only"])
            .await
            .unwrap(),
        "a\n\nb\n\n"
    );
    assert_eq!(
        etcdctl.run(&["get", "a", "--rev=2"]).await.unwrap(),
        "a\n1\n"
    );
    assert_eq!(
        etcdctl
            .run(&["get", "--from-key", "b", "--consistency=s"])
            .await
            .unwrap(),
        "b\nfrom stdin\n"
    );
    assert_eq!(
        etcdctl
            .run(&[
                "get",
                "--prefix",
                "",
                "--order=DESCEND",
                "--sort-by=MODIFY",
                "--limit=1"
            ])
            .await
            .unwrap(),
        "b\nfrom stdin\n"
    );
    let counted = etcdctl
        .run(&["get", "--prefix", "", "--count-only", "-w", "fields"])
        .await
        .unwrap();
    assert!(counted.contains("\"Count\" : 2"), "{counted}");
    let answer = json(&etcdctl.run(&["get", "a", "-w", "json"]).await.unwrap());
    assert_eq!(
        (&answer["count"], &answer["kvs"][0]["version"]),
        (&1.into(), &2.into())
    );
    assert_eq!(
        etcdctl.run(&["del", "--prev-kv", "a"]).await.unwrap(),
        "1\na\n2\n"
    );
    assert_eq!(etcdctl.run(&["del", "a"]).await.unwrap(), "0\n");
    assert_eq!(etcdctl.run(&["del", "--prefix", ""]).await.unwrap(), "1\n");
}

#[tokio::test]
async fn etcdctl_errors() {
    let (_server, etcdctl) = one().await;
    etcdctl.run(&["put", "a", "1"]).await.unwrap();
    for (args, text) in [
        (
            &["get", "a", "--rev=99"][..],
            "etcdserver: mvcc: required revision is a future revision",
        ),
        (
            &["put", "--ignore-value", "missing"],
            "etcdserver: key not found",
        ),
        (
            &["put", "--lease=1234", "a", "1"],
            "etcdserver: requested lease not found",
        ),
        (
            &["lease", "revoke", "1234"],
            "etcdserver: requested lease not found",
        ),
        (
            &["compaction", "99"],
            "etcdserver: mvcc: required revision is a future revision",
        ),
        (
            &["member", "remove", "1234"],
            "etcdserver: member not found",
        ),
    ] {
        let output = etcdctl.try_run(args).await.unwrap();
        assert!(output.stderr.contains(text), "{args:?}: {output:?}");
        assert_eq!(output.code, Some(1), "{args:?}");
    }
}

#[tokio::test]
async fn etcdctl_txn() {
    let (_server, etcdctl) = one().await;
    etcdctl.run(&["put", "a", "1"]).await.unwrap();
    let script = "value(\"a\") = \"1\"\nver(\"a\") = \"1\"\n\nput a 2\nget a\n\ndel a\n\n";
    assert_eq!(
        etcdctl.run_with(&["txn"], script).await.unwrap(),
        "SUCCESS\n\nOK\n\na\n2\n"
    );
    assert_eq!(
        etcdctl.run_with(&["txn"], script).await.unwrap(),
        "FAILURE\n\n1\n"
    );
}

#[tokio::test]
async fn etcdctl_watch() {
    let (_server, etcdctl) = one().await;
    for value in ["1", "2"] {
        etcdctl.run(&["put", "a", value]).await.unwrap();
    }
    etcdctl.run(&["del", "a"]).await.unwrap();
    let mut watch = etcdctl
        .start(&["watch", "--prefix", "a", "--rev=2", "--prev-kv"])
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut read = async |count: usize| {
        let mut found = Vec::new();
        for _ in 0..count {
            let line = tokio::time::timeout(WITHIN, lines.next_line())
                .await
                .expect("a line")
                .unwrap();
            found.push(line.expect("etcdctl goes on"));
        }
        found
    };
    assert_eq!(read(3).await, ["PUT", "a", "1"]);
    assert_eq!(read(5).await, ["PUT", "a", "1", "a", "2"]);
    assert_eq!(read(5).await, ["DELETE", "a", "2", "a", ""]);
    etcdctl.run(&["put", "ab", "3"]).await.unwrap();
    assert_eq!(read(3).await, ["PUT", "ab", "3"]);
}

#[tokio::test]
async fn etcdctl_lease() {
    let (_server, etcdctl) = one().await;
    let granted = etcdctl.run(&["lease", "grant", "60"]).await.unwrap();
    let id = granted
        .split_whitespace()
        .nth(1)
        .expect("lease <id> granted")
        .to_owned();
    assert_eq!(granted, format!("lease {id} granted with TTL(60s)\n"));
    etcdctl
        .run(&["put", "a", "1", &format!("--lease={id}")])
        .await
        .unwrap();
    assert_eq!(
        etcdctl
            .run(&["lease", "keep-alive", "--once", &id])
            .await
            .unwrap(),
        format!("lease {id} keepalived with TTL(60)\n")
    );
    let left = etcdctl
        .run(&["lease", "timetolive", "--keys", &id])
        .await
        .unwrap();
    assert!(
        left.starts_with(&format!("lease {id} granted with TTL(60s), remaining(")),
        "{left}"
    );
    assert!(left.ends_with("attached keys([a])\n"), "{left}");
    assert_eq!(
        etcdctl.run(&["lease", "list"]).await.unwrap(),
        format!("found 1 leases\n{id}\n")
    );
    assert_eq!(
        etcdctl.run(&["lease", "revoke", &id]).await.unwrap(),
        format!("lease {id} revoked\n")
    );
    assert_eq!(etcdctl.run(&["get", "a"]).await.unwrap(), "");
}

#[tokio::test]
async fn etcdctl_compaction_defrag_alarm() {
    let (_server, etcdctl) = one().await;
    for value in ["1", "2", "3"] {
        etcdctl.run(&["put", "a", value]).await.unwrap();
    }
    assert_eq!(
        etcdctl
            .run(&["compaction", "--physical", "3"])
            .await
            .unwrap(),
        "compacted revision 3\n"
    );
    let refused = etcdctl.try_run(&["get", "a", "--rev=2"]).await.unwrap();
    assert!(
        refused
            .stderr
            .contains("etcdserver: mvcc: required revision has been compacted"),
        "{refused:?}"
    );
    let defragmented = etcdctl.run(&["defrag"]).await.unwrap();
    assert!(
        defragmented.starts_with("Finished defragmenting etcd member[http://127.0.0.1:"),
        "{defragmented}"
    );
    assert_eq!(etcdctl.run(&["alarm", "list"]).await.unwrap(), "");
    assert_eq!(etcdctl.run(&["alarm", "disarm"]).await.unwrap(), "");
    assert_eq!(etcdctl.run(&["get", "a"]).await.unwrap(), "a\n3\n");
}

#[tokio::test]
async fn etcdctl_endpoint_status() {
    let (server, etcdctl) = one().await;
    settled(&server).await;
    etcdctl.run(&["put", "a", "1"]).await.unwrap();
    let status = json(
        &etcdctl
            .run(&["endpoint", "status", "-w", "json"])
            .await
            .unwrap(),
    );
    let [entry] = status.as_array().unwrap().as_slice() else {
        panic!("{status}")
    };
    let inner = &entry["Status"];
    assert_eq!(entry["Endpoint"], server.client_url());
    assert_eq!(inner["version"], stock::VERSION);
    assert_eq!(inner["leader"], inner["header"]["member_id"]);
    assert!(inner["dbSize"].as_u64().unwrap() > 0 && inner["dbSizeInUse"].as_u64().unwrap() > 0);
    assert_eq!(inner["dbSizeQuota"], 2u64 << 30);
    assert_eq!(inner["storageVersion"], "3.7.0");
}

#[tokio::test]
async fn etcdctl_endpoint_status_of_an_empty_store() {
    let (_server, etcdctl) = one().await;
    // It divides by the size of the store.
    for format in ["simple", "table", "json", "fields"] {
        etcdctl
            .run(&["endpoint", "status", "-w", format])
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn etcdctl_snapshot_is_a_stock_database() {
    let (server, etcdctl) = one().await;
    for number in 0..50 {
        etcdctl
            .run(&[
                "put",
                &format!("s/{:02}", number % 20),
                &format!("{number}"),
            ])
            .await
            .unwrap();
    }
    etcdctl.run(&["del", "s/00"]).await.unwrap();
    let granted = etcdctl.run(&["lease", "grant", "600"]).await.unwrap();
    let lease = granted.split_whitespace().nth(1).unwrap().to_owned();
    etcdctl
        .run(&["put", "leased", "v", &format!("--lease={lease}")])
        .await
        .unwrap();
    etcdctl
        .run(&["compaction", "--physical", "30"])
        .await
        .unwrap();
    let before = server
        .client()
        .range(etcd_e2e::client::range(b"\0", b"\0"))
        .await
        .unwrap();
    let hash = server.client().hash_kv(0).await.unwrap();

    settled(&server).await;
    let file = server.folder().join("snapshot.db");
    let path = file.to_str().unwrap();
    etcdctl.run(&["snapshot", "save", path]).await.unwrap();
    let etcdutl = Etcdutl::new().unwrap();
    let status = json(
        &etcdutl
            .run(&["snapshot", "status", path, "-w", "json"])
            .await
            .unwrap(),
    );
    assert_eq!(status["revision"], before.header.unwrap().revision);
    assert_eq!(status["version"], "3.7.0");
    assert!(
        status["totalKey"].as_i64().unwrap() >= before.count,
        "{status}"
    );
    // The hash is taken of a copy: etcdutl writes to the file it opens.
    let copy = server.folder().join("copy.db");
    std::fs::copy(&file, &copy).unwrap();
    let hashed = json(
        &etcdutl
            .run(&["hashkv", copy.to_str().unwrap(), "-w", "json"])
            .await
            .unwrap(),
    );
    assert_eq!(
        (&hashed["hash"], &hashed["hashRevision"]),
        (&hash.hash.into(), &hash.hash_revision.into())
    );

    // Stock etcd starts from it and has the same.
    let mut restored = Process::prepare(Options {
        target: Target::Stock,
        ..Options::single()
    })
    .unwrap();
    let data = restored.data_dir();
    let peer = restored.peer_url();
    let args = [
        "snapshot",
        "restore",
        path,
        "--data-dir",
        data.to_str().unwrap(),
        "--name",
        "default",
        "--initial-cluster",
        &format!("default={peer}"),
        "--initial-advertise-peer-urls",
        &peer,
    ];
    etcdutl.run(&args).await.unwrap();
    restored.spawn().unwrap();
    restored.ready().await.unwrap();
    let after = restored
        .client()
        .range(etcd_e2e::client::range(b"\0", b"\0"))
        .await
        .unwrap();
    assert_eq!(after.kvs, before.kvs);
    assert_eq!(restored.client().hash_kv(0).await.unwrap().hash, hash.hash);
    let left = restored
        .client()
        .time_to_live(i64::from_str_radix(&lease, 16).unwrap(), true)
        .await
        .unwrap();
    assert_eq!(
        (left.granted_ttl, left.keys.as_slice()),
        (600, &["leased".into()][..])
    );
}

#[tokio::test]
async fn etcdctl_lock_and_elect_are_plain_keys() {
    let (_server, etcdctl) = one().await;
    let mut holder = etcdctl.start(&["lock", "mutex"]).unwrap();
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    let key = tokio::time::timeout(WITHIN, lines.next_line())
        .await
        .expect("the lock is taken")
        .unwrap()
        .unwrap();
    assert!(key.starts_with("mutex/"), "{key}");
    let mut waiter = etcdctl.start(&["lock", "mutex"]).unwrap();
    let mut waiting = BufReader::new(waiter.stdout.take().unwrap()).lines();
    // Both wait in line as keys; the second has nothing to say yet.
    eventually(WITHIN, "the second is in line", async || {
        let keys = etcdctl
            .run(&["get", "--prefix", "mutex/", "--keys-only"])
            .await
            .map_err(|e| e.to_string())?;
        if keys.matches("mutex/").count() == 2 {
            Ok(())
        } else {
            Err(keys)
        }
    })
    .await;
    etcdctl.run(&["del", &key]).await.unwrap();
    let second = tokio::time::timeout(WITHIN, waiting.next_line())
        .await
        .expect("the lock is passed on")
        .unwrap();
    assert!(second.unwrap().starts_with("mutex/"));
}

#[tokio::test]
async fn etcdctl_elect_observes_and_passes_leadership_on() {
    let (_server, etcdctl) = one().await;
    let mut first = etcdctl.start(&["elect", "chair", "alice"]).unwrap();
    let mut first = BufReader::new(first.stdout.take().unwrap()).lines();
    let (key, name) = (next(&mut first).await, next(&mut first).await);
    assert!(key.starts_with("chair/"), "{key}");
    assert_eq!(name, "alice");
    let mut second = etcdctl.start(&["elect", "chair", "bob"]).unwrap();
    let mut second = BufReader::new(second.stdout.take().unwrap()).lines();
    let mut observer = etcdctl.start(&["elect", "--listen", "chair"]).unwrap();
    let mut observer = BufReader::new(observer.stdout.take().unwrap()).lines();
    let seen = [next(&mut observer).await, next(&mut observer).await];
    assert_eq!(seen, [key.clone(), "alice".to_owned()]);
    eventually(WITHIN, "the second is in line", async || {
        let keys = etcdctl
            .run(&["get", "--prefix", "chair/", "--keys-only"])
            .await
            .map_err(|e| e.to_string())?;
        match keys.matches("chair/").count() {
            2 => Ok(()),
            _ => Err(keys),
        }
    })
    .await;
    etcdctl.run(&["del", &key]).await.unwrap();
    let (other, name) = (next(&mut second).await, next(&mut second).await);
    assert_ne!(other, key);
    assert_eq!(name, "bob");
    let seen = [next(&mut observer).await, next(&mut observer).await];
    assert_eq!(seen, [other, "bob".to_owned()]);
}

/// The next line of a command that goes on.
async fn next(lines: &mut Lines<BufReader<ChildStdout>>) -> String {
    tokio::time::timeout(WITHIN, lines.next_line())
        .await
        .expect("a line in time")
        .unwrap()
        .expect("the command goes on")
}

#[tokio::test]
async fn etcdctl_make_mirror_follows_what_changes() {
    let (_source, from) = one().await;
    let (target, to) = one().await;
    for (key, value) in [("m/a", "1"), ("m/b", "2"), ("other", "3")] {
        from.run(&["put", key, value]).await.unwrap();
    }
    let url = target.client_url();
    let args = ["make-mirror", &url, "--prefix", "m/", "--dest-prefix", "x/"];
    let _mirror = from.start(&args).unwrap();
    let mirrored = async |expected: &str| {
        eventually(WITHIN, "the mirror is equal", async || {
            let keys = to.run(&["get", "", "--from-key"]).await;
            let found = keys.map_err(|e| e.to_string())?;
            if found == expected {
                Ok(())
            } else {
                Err(found)
            }
        })
        .await;
    };
    mirrored("x/a\n1\nx/b\n2\n").await;
    // One transaction of the source is one of the mirror.
    let txn = "\nput m/c 4\ndel m/a\n\n\n";
    from.run_with(&["txn"], txn).await.unwrap();
    mirrored("x/b\n2\nx/c\n4\n").await;
    from.run(&["put", "m/b", "5"]).await.unwrap();
    mirrored("x/b\n5\nx/c\n4\n").await;
}

#[tokio::test]
async fn etcdctl_get_stream_prints_what_get_does() {
    let (server, etcdctl) = one().await;
    let client = server.client();
    for number in 0..300 {
        let value = vec![b'a' + (number % 26) as u8; 10_000];
        client.put(format!("s/{number:03}"), value).await.unwrap();
    }
    for more in [&[][..], &["--keys-only"], &["--limit=7"], &["--rev=20"]] {
        let args = [&["get", "--prefix", "s/"][..], more].concat();
        let plain = etcdctl.run(&args).await.unwrap();
        let streamed = etcdctl.run(&[&args[..], &["--stream"]].concat()).await;
        assert_eq!(streamed.unwrap(), plain, "{more:?}");
    }
}
