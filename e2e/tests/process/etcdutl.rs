//! Our etcdutl beside the stock one, on the same files.

use std::path::{Path, PathBuf};

use etcd_e2e::client::{get, put, range};
use etcd_e2e::cluster::AGREES_WITHIN;
use etcd_e2e::scratch::Scratch;
use etcd_e2e::{Etcdctl, Etcdutl, Options, Process, Target, eventually};
use etcd_proto::etcdserverpb::RangeRequest;
use serde_json::Value;

/// A member with a history, and a snapshot of it.
async fn saved(target: Target, folder: &Path) -> PathBuf {
    let member = Process::start(Options {
        target,
        ..Options::single()
    })
    .await
    .unwrap();
    let client = member.client();
    client.grant(600, 77).await.unwrap();
    for round in 0..30 {
        let value = format!("value of round {round}");
        client.put(format!("k/{}", round % 7), value).await.unwrap();
    }
    client
        .delete(etcd_e2e::client::delete("k/3"))
        .await
        .unwrap();
    let mut leased = put("leased", "1");
    leased.lease = 77;
    client.put_with(leased).await.unwrap();
    client.compact(12).await.unwrap();
    client.put("k/5", "last").await.unwrap();
    let file = folder.join(format!("{target}.db"));
    let tool = Etcdctl::new(&[member.client_url()]).unwrap();
    tool.run(&["snapshot", "save", file.to_str().unwrap()])
        .await
        .unwrap();
    file
}

fn everything() -> RangeRequest {
    range(b"\0", b"\0")
}

fn copy(file: &Path, name: &str) -> String {
    let to = file.with_file_name(name);
    std::fs::copy(file, &to).unwrap();
    to.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn etcdutl_prints_what_stock_etcdutl_prints() {
    let scratch = Scratch::new().unwrap();
    let (ours, stock) = (Etcdutl::ours().unwrap(), Etcdutl::new().unwrap());
    for target in [Target::Ours, Target::Stock] {
        let file = saved(target, scratch.path()).await;
        let before = std::fs::read(&file).unwrap();
        let file = file.to_str().unwrap();
        for format in ["simple", "table", "json", "fields"] {
            for command in [vec!["snapshot", "status", file], vec!["hashkv", file]] {
                let command = [command, vec!["-w", format]].concat();
                let mine = ours.run(&command).await.unwrap();
                // Stock etcdutl opens a file for writing: it gets one of its own.
                let own = copy(Path::new(file), "own.db");
                let command: Vec<&str> = command
                    .iter()
                    .map(|arg| if *arg == file { own.as_str() } else { arg })
                    .collect();
                let theirs = stock.run(&command).await.unwrap();
                assert_eq!(mine, theirs, "{command:?}");
            }
        }
        let at = ["hashkv", file, "--rev", "20"];
        let own = copy(Path::new(file), "own.db");
        let theirs = stock.run(&["hashkv", &own, "--rev", "20"]).await.unwrap();
        assert_eq!(ours.run(&at).await.unwrap(), theirs);
        assert_eq!(std::fs::read(file).unwrap(), before, "the file was altered");
    }
}

#[tokio::test]
async fn etcdutl_refuses_with_the_exit_codes_of_stock() {
    let scratch = Scratch::new().unwrap();
    let (ours, stock) = (Etcdutl::ours().unwrap(), Etcdutl::new().unwrap());
    let file = saved(Target::Ours, scratch.path()).await;
    let path = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    let db = file.to_str().unwrap().to_owned();
    let raw = path("raw.db");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes.truncate(bytes.len() - 32);
    std::fs::write(&raw, &bytes).unwrap();
    std::fs::create_dir(path("full")).unwrap();
    std::fs::write(path("full/x"), "x").unwrap();
    let (none, full, new) = (path("none.db"), path("full"), path("new"));
    for args in [
        vec!["snapshot", "status"],
        vec!["snapshot", "status", &db, &db],
        vec!["snapshot", "status", &db, "-w", "protobuf"],
        vec!["snapshot", "status", &none],
        vec!["snapshot", "restore"],
        vec!["snapshot", "restore", &raw, "--data-dir", &new],
        vec!["snapshot", "restore", &db, "--data-dir", &full],
        vec![
            "snapshot",
            "restore",
            &db,
            "--data-dir",
            &new,
            "--bump-revision",
            "5",
        ],
        vec![
            "snapshot",
            "restore",
            &db,
            "--data-dir",
            &new,
            "--mark-compacted",
        ],
        vec![
            "snapshot",
            "restore",
            &db,
            "--data-dir",
            &new,
            "--name",
            "x",
        ],
    ] {
        let mine = ours.try_run(&args).await.unwrap();
        let theirs = stock.try_run(&args).await.unwrap();
        assert_eq!(mine.code, theirs.code, "{args:?}: {mine:?} {theirs:?}");
        let last = |text: &str| {
            text.lines()
                .rfind(|l| l.starts_with("Error: "))
                .map(str::to_owned)
        };
        assert_eq!(last(&mine.stderr), last(&theirs.stderr), "{args:?}");
        let _ = std::fs::remove_dir_all(&new);
    }
}

#[tokio::test]
async fn o24_a_damaged_snapshot_is_refused_and_leaves_nothing() {
    let scratch = Scratch::new().unwrap();
    let ours = Etcdutl::ours().unwrap();
    let file = saved(Target::Stock, scratch.path()).await;
    let whole = std::fs::read(&file).unwrap();
    let damaged = scratch.path().join("damaged.db");
    let to = scratch.path().join("restored");
    let args = [
        "snapshot",
        "restore",
        damaged.to_str().unwrap(),
        "--data-dir",
        to.to_str().unwrap(),
    ];
    let mut cut = whole.clone();
    cut.truncate(whole.len() / 2);
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for content in [cut, flipped, whole[..100].to_vec(), Vec::new()] {
        std::fs::write(&damaged, content).unwrap();
        let output = ours.try_run(&args).await.unwrap();
        assert_eq!(output.code, Some(1), "{output:?}");
        assert!(output.stderr.starts_with("Error: "), "{output:?}");
        assert!(!to.join("member").exists());
        // Without its digest damage may go unseen, but never ends in a panic.
        let skip = [&args[..], &["--skip-hash-check"]].concat();
        let output = ours.try_run(&skip).await.unwrap();
        assert!(matches!(output.code, Some(0 | 1)), "{output:?}");
        let _ = std::fs::remove_dir_all(&to);
    }
}

/// A member on a restored directory.
async fn start(target: Target, tool: &Etcdutl, file: &str, more: &[&str]) -> Process {
    let mut member = Process::prepare(Options {
        target,
        ..Options::single()
    })
    .unwrap();
    let data = member.data_dir();
    let peer = member.peer_url();
    let list = format!("{}={peer}", member.name());
    let args = [
        &[
            "snapshot",
            "restore",
            file,
            "--data-dir",
            data.to_str().unwrap(),
            "--name",
            member.name(),
            "--initial-cluster",
            &list,
            "--initial-advertise-peer-urls",
            &peer,
            "--initial-cluster-token",
            "restored",
        ][..],
        more,
    ]
    .concat();
    tool.run(&args).await.unwrap();
    member.spawn().unwrap();
    member.ready().await.unwrap();
    member
}

#[tokio::test]
async fn o23_a_restored_member_is_what_stock_would_have_restored() {
    let scratch = Scratch::new().unwrap();
    let (ours, stock) = (Etcdutl::ours().unwrap(), Etcdutl::new().unwrap());
    for more in [&[][..], &["--bump-revision", "1000", "--mark-compacted"]] {
        let file = saved(Target::Stock, scratch.path()).await;
        let file = file.to_str().unwrap();
        let own = copy(Path::new(file), "own.db");
        let member = start(Target::Ours, &ours, file, more).await;
        let reference = start(Target::Stock, &stock, &own, more).await;
        let (a, b) = (member.client(), reference.client());
        eventually(AGREES_WITHIN, "equal revisions", async || {
            let (x, y) = (a.revision().await?, b.revision().await?);
            let hash = (a.hash_kv(0).await?, b.hash_kv(0).await?);
            let of = |h: &etcd_proto::etcdserverpb::HashKvResponse| (h.hash, h.compact_revision);
            if x == y && of(&hash.0) == of(&hash.1) {
                Ok(())
            } else {
                Err(tonic::Status::internal(format!("{x} {y} {hash:?}")))
            }
        })
        .await;
        let (x, y) = (
            a.range(everything()).await.unwrap(),
            b.range(everything()).await.unwrap(),
        );
        assert_eq!(x.kvs, y.kvs);
        assert_eq!(x.count, y.count);
        let lease = a.time_to_live(77, true).await.unwrap();
        assert_eq!(lease.granted_ttl, 600);
        if !more.is_empty() {
            // A watch or a read of the old cluster's revisions is told, not served.
            let old = RangeRequest {
                revision: 30,
                ..get("k/5")
            };
            let refused = a.range(old).await.unwrap_err();
            assert!(refused.message().contains("compacted"), "{refused:?}");
        }
        let (x, y) = (
            a.status().await.unwrap().header.unwrap(),
            b.status().await.unwrap().header.unwrap(),
        );
        assert_eq!(x.revision, y.revision);
        assert_ne!(x.cluster_id, y.cluster_id, "their peer URLs differ");
        a.put("on", "1").await.unwrap();
    }
}

#[tokio::test]
async fn etcdutl_restores_three_members_that_find_each_other() {
    let scratch = Scratch::new().unwrap();
    let (ours, stock) = (Etcdutl::ours().unwrap(), Etcdutl::new().unwrap());
    let file = saved(Target::Ours, scratch.path()).await;
    let mut members = Vec::new();
    for (number, target) in [Target::Ours, Target::Stock, Target::Ours]
        .into_iter()
        .enumerate()
    {
        let options = Options {
            target,
            name: format!("m{number}"),
            ..Options::single()
        };
        members.push(Process::prepare(options).unwrap());
    }
    let list: Vec<String> = members
        .iter()
        .map(|m| format!("{}={}", m.name(), m.peer_url()))
        .collect();
    let list = list.join(",");
    for (number, member) in members.iter_mut().enumerate() {
        let own = copy(&file, &format!("{number}.db"));
        let data = member.data_dir();
        let args = [
            "snapshot",
            "restore",
            &own,
            "--data-dir",
            data.to_str().unwrap(),
            "--name",
            member.name(),
            "--initial-cluster",
            &list,
            "--initial-advertise-peer-urls",
            &member.peer_url(),
            "--bump-revision",
            "500",
            "--mark-compacted",
        ];
        let tool = if number == 1 { &stock } else { &ours };
        tool.run(&args).await.unwrap();
        member.options().initial_cluster = Some(list.clone());
        member.spawn().unwrap();
    }
    for member in &mut members {
        member.ready().await.unwrap();
    }
    members[0].client().put("together", "1").await.unwrap();
    let urls: Vec<String> = members.iter().map(Process::client_url).collect();
    let tool = Etcdctl::new(&urls).unwrap();
    eventually(AGREES_WITHIN, "equal hashes", async || {
        let text = tool
            .run(&["endpoint", "hashkv", "-w", "json"])
            .await
            .unwrap();
        let all: Value = serde_json::from_str(&text).unwrap();
        let hashes: Vec<&Value> = all
            .as_array()
            .unwrap()
            .iter()
            .map(|e| &e["HashKV"]["hash"])
            .collect();
        if hashes.windows(2).all(|pair| pair[0] == pair[1]) {
            Ok(())
        } else {
            Err(text)
        }
    })
    .await;
}
