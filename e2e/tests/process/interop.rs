//! Snapshots of random histories, taken and restored by ours and by stock etcd in all
//! combinations: what comes back is what was there.
//!
//! `E2E_HISTORIES` is how many histories there are (default 3), `E2E_SEED` which ones.

use etcd_e2e::client::{Client, delete, delete_range, op, put};
use etcd_e2e::cluster::AGREES_WITHIN;
use etcd_e2e::saved::{restored, saved};
use etcd_e2e::scratch::Scratch;
use etcd_e2e::{Etcdctl, Etcdutl, Options, Process, Store, Target, eventually};
use etcd_proto::etcdserverpb::alarm_request::AlarmAction;
use etcd_proto::etcdserverpb::{AlarmType, TxnRequest};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// What a client does.
#[derive(Clone, Debug)]
enum Step {
    Put {
        key: u8,
        bytes: usize,
        lease: Option<i64>,
    },
    Delete(u8, u8),
    Txn(Vec<(u8, bool)>),
    Grant(i64),
    Revoke(i64),
    Compact {
        behind: i64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = prop_oneof![8 => 0usize..200, 1 => 3_000usize..20_000];
    prop_oneof![
        10 => (0u8..30, bytes, prop::option::weighted(0.2, 1i64..6))
            .prop_map(|(key, bytes, lease)| Step::Put { key, bytes, lease }),
        2 => (0u8..30, 0u8..5).prop_map(|(from, more)| Step::Delete(from, from + more)),
        3 => prop::collection::btree_map(0u8..30, any::<bool>(), 1..8)
            .prop_map(|ops| Step::Txn(ops.into_iter().collect())),
        2 => (1i64..6).prop_map(Step::Grant),
        1 => (1i64..6).prop_map(Step::Revoke),
        1 => (0i64..15).prop_map(|behind| Step::Compact { behind }),
    ]
}

fn key(number: u8) -> String {
    format!("key/{number:03}")
}

impl Step {
    /// Carries it out; what etcd refuses, such as an unknown lease, is part of a history.
    async fn run(&self, client: &Client) {
        let refused = match self {
            Step::Put {
                key: number,
                bytes,
                lease,
            } => {
                let mut request = put(key(*number), vec![b'a' + number % 20; *bytes]);
                request.lease = lease.unwrap_or_default();
                client.put_with(request).await.err()
            }
            Step::Delete(from, to) => client
                .delete(delete_range(key(*from), key(*to)))
                .await
                .err(),
            Step::Txn(ops) => {
                let ops = ops.iter().map(|(number, is_put)| match is_put {
                    true => op(put(key(*number), "of a transaction")),
                    false => op(delete(key(*number))),
                });
                let request = TxnRequest {
                    success: ops.collect(),
                    ..TxnRequest::default()
                };
                client.txn(request).await.err()
            }
            Step::Grant(id) => client.grant(3000 + id, *id).await.err(),
            Step::Revoke(id) => client.revoke(*id).await.err(),
            Step::Compact { behind } => {
                let revision = client.revision().await.unwrap();
                client.compact((revision - behind).max(1)).await.err()
            }
        };
        if let Some(status) = refused {
            let expected = ["lease not found", "already exists", "compacted"];
            assert!(
                expected.iter().any(|text| status.message().contains(text)),
                "{self:?}: {status}"
            );
        }
    }
}

/// The same histories in every run.
fn histories() -> Vec<Vec<Step>> {
    let number = |name: &str, default: u64| match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => default,
    };
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number("E2E_SEED", 1).to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let steps = prop::collection::vec(step(), 40..160);
    (0..number("E2E_HISTORIES", 3))
        .map(|_| steps.new_tree(&mut runner).unwrap().current())
        .collect()
}

fn options(target: Target) -> Options {
    Options {
        target,
        ..Options::single()
    }
}

async fn is_equal(expected: &Store, member: &Process, what: &str) {
    let client = member.client();
    let what = format!("the restored store is the one that was saved: {what}");
    eventually(AGREES_WITHIN, &what, async || {
        expected.expect(&client).await
    })
    .await;
}

#[tokio::test]
async fn o24_random_histories_come_back_whichever_way_they_go() {
    let tools = [
        ("ours", Etcdutl::ours().unwrap()),
        ("stock", Etcdutl::new().unwrap()),
    ];
    for (number, steps) in histories().into_iter().enumerate() {
        for source in [Target::Ours, Target::Stock] {
            let scratch = Scratch::new().unwrap();
            let member = Process::start(options(source)).await.unwrap();
            let client = member.client();
            for step in &steps {
                step.run(&client).await;
            }
            client
                .alarm(AlarmAction::Activate, 7, AlarmType::Nospace)
                .await
                .unwrap();
            let expected = Store::read(&client).await.unwrap();
            let file = saved(&member, scratch.path(), "saved.db").await.unwrap();
            for (tool_name, tool) in &tools {
                for target in [Target::Ours, Target::Stock] {
                    let what = format!(
                        "history {number}, saved from {source}, restored by {tool_name}, run by {target}"
                    );
                    let copy = restored(target, tool, &file).await.unwrap();
                    is_equal(&expected, &copy, &what).await;
                    // And on, by a snapshot of the copy.
                    if *tool_name == "ours" {
                        let again = saved(&copy, scratch.path(), "again.db").await.unwrap();
                        let other = match target {
                            Target::Ours => Target::Stock,
                            Target::Stock => Target::Ours,
                        };
                        let last = restored(other, &tools[1].1, &again).await.unwrap();
                        is_equal(&expected, &last, &format!("{what}, then by {other}")).await;
                        std::fs::remove_file(again).unwrap();
                    }
                }
            }
        }
    }
}

/// Users and roles, which ours does not manage yet, pass through it whole.
#[tokio::test]
async fn o24_users_and_roles_come_back_through_ours() {
    let scratch = Scratch::new().unwrap();
    let (ours, stock) = (Etcdutl::ours().unwrap(), Etcdutl::new().unwrap());
    let member = Process::start(options(Target::Stock)).await.unwrap();
    let tool = Etcdctl::new(&[member.client_url()]).unwrap();
    for command in [
        &["put", "a/b", "1"][..],
        &["user", "add", "root:secret"],
        &["user", "grant-role", "root", "root"],
        &["user", "add", "somebody:pass"],
        &["role", "add", "reader"],
        &[
            "role",
            "grant-permission",
            "reader",
            "read",
            "--prefix",
            "a/",
        ],
        &["user", "grant-role", "somebody", "reader"],
    ] {
        tool.run(command).await.unwrap();
    }
    let told = async |member: &Process| {
        let tool = Etcdctl::new(&[member.client_url()]).unwrap();
        let mut all = Vec::new();
        for command in [
            &["user", "list"][..],
            &["role", "list"],
            &["user", "get", "somebody", "--detail"],
            &["role", "get", "reader"],
        ] {
            all.push(tool.run(command).await.unwrap());
        }
        all
    };
    let expected = told(&member).await;
    let store = Store::read(&member.client()).await.unwrap();
    let file = saved(&member, scratch.path(), "stock.db").await.unwrap();
    let through = restored(Target::Ours, &ours, &file).await.unwrap();
    is_equal(&store, &through, "in ours").await;
    let again = saved(&through, scratch.path(), "ours.db").await.unwrap();
    let back = restored(Target::Stock, &stock, &again).await.unwrap();
    assert_eq!(told(&back).await, expected);
    is_equal(&store, &back, "back in stock").await;
    // And what they say is obeyed once authentication is on.
    let tool = Etcdctl::new(&[back.client_url()]).unwrap();
    tool.run(&["auth", "enable"]).await.unwrap();
    let allowed = ["--user=somebody:pass", "get", "a/b", "--print-value-only"];
    assert_eq!(tool.run(&allowed).await.unwrap().trim(), "1");
    let denied = tool
        .try_run(&["--user=somebody:pass", "put", "a/b", "2"])
        .await
        .unwrap();
    assert!(denied.stderr.contains("permission denied"), "{denied:?}");

    // With authentication on, stock runs what we restored, and ours says why it does not.
    let file = scratch.path().join("auth.db");
    let save = [
        "--user=root:secret",
        "snapshot",
        "save",
        file.to_str().unwrap(),
    ];
    tool.run(&save).await.unwrap();
    let mut ours_refuses = Process::prepare(options(Target::Ours)).unwrap();
    let (data, peer) = (ours_refuses.data_dir(), ours_refuses.peer_url());
    let cluster = format!("default={peer}");
    let args = [
        "snapshot",
        "restore",
        file.to_str().unwrap(),
        "--data-dir",
        data.to_str().unwrap(),
        "--initial-cluster",
        &cluster,
        "--initial-advertise-peer-urls",
        &peer,
    ];
    let output = ours.try_run(&args).await.unwrap();
    assert_eq!(output.code, Some(0), "{output:?}");
    assert!(
        output.stderr.contains("authentication is enabled"),
        "{output:?}"
    );
    ours_refuses.spawn().unwrap();
    let ended = ours_refuses.exit(AGREES_WITHIN).await.unwrap();
    assert_eq!(ended.code(), Some(1));
    ours_refuses.options().target = Target::Stock;
    ours_refuses.spawn().unwrap();
    let tool = Etcdctl::new(&[ours_refuses.client_url()]).unwrap();
    let value = eventually(AGREES_WITHIN, "stock etcd serves it", async || {
        tool.run(&allowed).await
    })
    .await;
    assert_eq!(value.trim(), "1");
}
