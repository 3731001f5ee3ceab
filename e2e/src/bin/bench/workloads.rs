//! The workloads: what kube-apiserver asks for, one kind at a time.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use bytes::Bytes;
use etcd_e2e::Client;
use etcd_e2e::client::{get, op, prefix, put, range};
use etcd_e2e::compare::{Equal, mod_revision, txn};
use etcd_proto::etcdserverpb::RangeRequest;
use parking_lot::Mutex;

use crate::Settings;
use crate::load::fill;
use crate::report::{Memory, Report, Sample};
use crate::world::{Pair, World};

/// Keys of the small store.
const SMALL: u64 = 10_000;
/// Keys of a page.
const PAGE: i64 = 500;
/// Large answers under way at once.
const LISTERS: usize = 4;

fn pod(number: u64) -> String {
    format!(
        "/registry/pods/namespace-{:03}/pod-{number:08}",
        number % 100
    )
}

fn node(number: u64) -> String {
    format!("/registry/leases/node-{number:08}")
}

/// Runs one workload for both worlds, in turns.
async fn compare<F, S>(
    pair: &mut Pair,
    settings: &Settings,
    report: &mut Report,
    name: &str,
    prepare: F,
) -> Result<()>
where
    F: AsyncFn(&World) -> Result<S>,
    S: AsyncFn(&World) -> Result<Sample>,
{
    if !settings.wants(name) {
        return Ok(());
    }
    eprintln!("{} member(s): {name}", pair.members);
    let turns = [
        prepare(&pair.worlds[0]).await?,
        prepare(&pair.worlds[1]).await?,
    ];
    for round in 0..settings.rounds {
        for place in Pair::order(round) {
            let sample = turns[place](&pair.worlds[place]).await?;
            report.add(pair.members, name, place, sample);
        }
    }
    Ok(())
}

/// Everything that needs no large store.
pub(crate) async fn small(pair: &mut Pair, settings: &Settings, report: &mut Report) -> Result<()> {
    for world in &pair.worlds {
        fill(world, SMALL, settings.value, pod).await?;
    }
    let value = Bytes::from(vec![b'v'; settings.value]);
    let (concurrency, turn) = (settings.concurrency, settings.turn);

    compare(pair, settings, report, "put", async |_: &World| {
        let value = value.clone();
        Ok(async move |world: &World| {
            let value = value.clone();
            crate::drive::turn(
                world,
                concurrency,
                turn,
                move |client: Client, _, number| {
                    let request = put(pod(number % SMALL), &value);
                    async move { client.put_with(request).await.map(|_| 1) }
                },
            )
            .await
        })
    })
    .await?;

    compare(pair, settings, report, "create-txn", async |_: &World| {
        let value = value.clone();
        Ok(async move |world: &World| {
            let value = value.clone();
            crate::drive::turn(
                world,
                concurrency,
                turn,
                move |client: Client, _, number| {
                    let key = format!("/registry/events/namespace/event-{number:012}");
                    let request = txn([mod_revision(&key, Equal, 0)], [op(put(&key, &value))], []);
                    async move {
                        client
                            .txn(request)
                            .await
                            .map(|answer| u64::from(answer.succeeded))
                    }
                },
            )
            .await
        })
    })
    .await?;

    compare(pair, settings, report, "update-txn", async |_: &World| {
        // Each worker updates a key of its own, at the revision it left it.
        let revisions = Arc::new(Mutex::new(vec![0i64; concurrency]));
        let value = value.clone();
        Ok(async move |world: &World| {
            let (value, revisions) = (value.clone(), revisions.clone());
            crate::drive::turn(
                world,
                concurrency,
                turn,
                move |client: Client, worker, _| {
                    let key = node(worker as u64);
                    let last = revisions.lock()[worker];
                    let request = txn(
                        [mod_revision(&key, Equal, last)],
                        [op(put(&key, &value))],
                        [op(get(&key))],
                    );
                    let revisions = revisions.clone();
                    async move {
                        let answer = client.txn(request).await?;
                        revisions.lock()[worker] = answer.header.unwrap_or_default().revision;
                        Ok(u64::from(answer.succeeded))
                    }
                },
            )
            .await
        })
    })
    .await?;

    for (name, serializable) in [("get-linearizable", false), ("get-serializable", true)] {
        compare(pair, settings, report, name, async |_: &World| {
            Ok(async move |world: &World| {
                crate::drive::turn(
                    world,
                    concurrency,
                    turn,
                    move |client: Client, _, number| {
                        let request = RangeRequest {
                            serializable,
                            ..get(pod(number * 7919 % SMALL))
                        };
                        async move {
                            client
                                .range(request)
                                .await
                                .map(|answer| answer.count as u64)
                        }
                    },
                )
                .await
            })
        })
        .await?;
    }

    compare(pair, settings, report, "list-10000", async |_: &World| {
        Ok(async move |world: &World| {
            crate::drive::turn(
                world,
                LISTERS,
                turn,
                move |client: Client, _, _| async move {
                    client.range(prefix("/registry/pods/")).await.map(|_| 1)
                },
            )
            .await
        })
    })
    .await
}

/// Pages out of a large store, its memory, and a restart with it.
pub(crate) async fn large(pair: &mut Pair, settings: &Settings, report: &mut Report) -> Result<()> {
    for world in &pair.worlds {
        fill(world, settings.keys, settings.value, pod).await?;
    }
    let turn = settings.turn;
    for (place, world) in pair.worlds.iter().enumerate() {
        world.idle().await?;
        let (rss, anonymous) = world.memory()?;
        report.remember(
            "memory-loaded",
            place,
            Memory {
                rss,
                anonymous,
                ready: None,
            },
        );
    }

    compare(pair, settings, report, "page-first", async |_: &World| {
        Ok(async move |world: &World| {
            crate::drive::turn(
                world,
                LISTERS,
                turn,
                move |client: Client, _, _| async move {
                    client
                        .range(RangeRequest {
                            limit: PAGE,
                            ..prefix("/registry/pods/")
                        })
                        .await
                        .map(|_| 1)
                },
            )
            .await
        })
    })
    .await?;

    compare(
        pair,
        settings,
        report,
        "page-next",
        async |world: &World| {
            // The pages of one list: all at the revision of the first.
            let first = RangeRequest {
                limit: PAGE,
                ..prefix("/registry/pods/")
            };
            let first = world.clients[0].range(first).await?;
            let revision = first.header.unwrap_or_default().revision;
            let last = first.kvs.last().context("a page has keys")?.key.clone();
            let cursors = Arc::new(Mutex::new(vec![last; LISTERS]));
            // Meanwhile the store has gone on.
            for number in 0..100 {
                world.clients[0].put(pod(number), "changed").await?;
            }
            Ok(async move |world: &World| {
                let cursors = cursors.clone();
                crate::drive::turn(world, LISTERS, turn, move |client: Client, worker, _| {
                    let mut from = cursors.lock()[worker].to_vec();
                    from.push(0);
                    let request = RangeRequest {
                        limit: PAGE,
                        revision,
                        ..range(from, "/registry/pods0")
                    };
                    let cursors = cursors.clone();
                    async move {
                        let answer = client.range(request).await?;
                        let next = match answer.kvs.last() {
                            Some(kv) if answer.more => kv.key.clone(),
                            // The end: again from the beginning.
                            _ => Bytes::from_static(b"/registry/pods/"),
                        };
                        cursors.lock()[worker] = next;
                        Ok(1)
                    }
                })
                .await
            })
        },
    )
    .await?;

    if settings.wants("restart") {
        eprintln!("1 member: restart with {} keys", settings.keys);
        for round in 0..settings.rounds.min(2) {
            for place in Pair::order(round) {
                let world = &mut pair.worlds[place];
                let member = &mut world.cluster.members[0];
                member.stop(std::time::Duration::from_secs(60)).await?;
                let start = Instant::now();
                member.spawn()?;
                member.ready().await?;
                let ready = start.elapsed();
                world.idle().await?;
                let (rss, anonymous) = world.memory()?;
                report.remember(
                    "restart",
                    place,
                    Memory {
                        rss,
                        anonymous,
                        ready: Some(ready),
                    },
                );
            }
        }
    }
    Ok(())
}
