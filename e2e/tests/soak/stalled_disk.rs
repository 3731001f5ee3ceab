//! Disks that complete nothing for a while: every member's data lies on a file system of
//! its own, in a file, mounted where only that member sees it. Needs root.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use etcd_e2e::cluster::AGREES_WITHIN;
use etcd_e2e::load::Writers;
use etcd_e2e::scratch::Scratch;
use etcd_e2e::{Cluster, Options, Process, Target, eventually};

const ELECTION_MS: u64 = 1000;

/// How long the disk does nothing.
const STALL: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A program that gives `etcd` a disk of its own and becomes it. The mount and its loop
/// device go with the process, however that ends.
fn with_a_disk(folder: &Scratch, etcd: &str) -> Options {
    assert!(
        rustix::process::geteuid().is_root(),
        "mounting a disk for each member needs root"
    );
    let script = format!(
        r#"#!/bin/sh -e
truncate --size=512M disk
mkfs.ext4 -q -F disk
mkdir data
exec unshare --mount --propagation private sh -e -c '
  mount -o loop disk data
  rmdir data/lost+found
  exec "$@"' sh "{etcd}" "$@"
"#
    );
    let program = folder.path().join("etcd");
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    Options {
        program: Some(program),
        heartbeat_ms: 100,
        election_ms: ELECTION_MS,
        ..Options::single()
    }
}

/// A disk that stalls; it works again when this is dropped, and when this program ends,
/// however it ends: the helper waits for the end of its input.
struct Stalled(Child);

impl Stalled {
    fn new(member: &Process) -> Stalled {
        let mut helper = Command::new("nsenter")
            .arg(format!("--target={}", member.pid().unwrap()))
            .args(["--mount", "--", "sh", "-e", "-c"])
            .arg(r#"trap 'fsfreeze --unfreeze "$1"' EXIT; fsfreeze --freeze "$1"; echo stalled; cat"#)
            .arg("sh")
            .arg(member.data_dir())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("nsenter (Debian package util-linux)");
        let mut line = String::new();
        let told = BufReader::new(helper.stdout.as_mut().unwrap()).read_line(&mut line);
        let stalled = Stalled(helper);
        told.unwrap();
        assert_eq!(line, "stalled\n");
        stalled
    }
}

impl Drop for Stalled {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let ended = self.0.wait();
        if !ended.as_ref().is_ok_and(|status| status.success()) {
            eprintln!("a disk was not let go: {ended:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s15_a_leader_whose_disk_stalls_for_30_s_hands_over_within_two_election_timeouts() {
    let folder = Scratch::new().unwrap();
    let etcd = Target::from_env().etcd().unwrap();
    let options = with_a_disk(&folder, etcd.to_str().unwrap());
    let mut cluster = Cluster::start(3, options).await.unwrap();
    let leader = cluster.leader().await;
    let old = cluster.id(leader).await.unwrap();
    let others = [
        cluster.members[(leader + 1) % 3].client(),
        cluster.members[(leader + 2) % 3].client(),
    ];
    let writers = Writers::start(&cluster.clients(), 4, "load/");
    eventually(
        AGREES_WITHIN,
        "writes are under way",
        async || match writers.acknowledged() {
            count if count > 100 => Ok(()),
            count => Err(count),
        },
    )
    .await;

    let stalled = Stalled::new(&cluster.members[leader]);
    let since = Instant::now();
    let leads = eventually(AGREES_WITHIN, "another leader", async || {
        let status = others[0].status().await.map_err(|s| s.to_string())?;
        match status.leader {
            0 => Err("none".to_owned()),
            same if same == old => Err("the stalled one".to_owned()),
            other => Ok(other),
        }
    })
    .await;
    let took = since.elapsed();
    assert!(
        took < 2 * Duration::from_millis(ELECTION_MS),
        "it handed over after {took:?}"
    );
    // Nobody moves leadership back to it, and the others go on acknowledging.
    let mut seen = writers.acknowledged();
    let mut quiet = (Instant::now(), Duration::ZERO);
    // The stall is what this is about, so it lasts; every tick is a look.
    let mut looks = tokio::time::interval(LOOK_EVERY);
    while since.elapsed() < STALL {
        looks.tick().await;
        let count = writers.acknowledged();
        if count > seen {
            seen = count;
            quiet.0 = Instant::now();
        }
        quiet.1 = quiet.1.max(quiet.0.elapsed());
        for client in &others {
            let status = client.status().await.unwrap();
            assert_ne!(status.leader, old, "after {:?}", since.elapsed());
        }
    }
    drop(stalled);

    let ledger = writers.finish().await;
    eprintln!(
        "{leads:x} leads {took:?} after the disk of {old:x} stalled; no write for {:?} at most, {:?} once it leads",
        ledger.longest_gap, quiet.1
    );
    cluster.equal().await;
    for client in &cluster.clients() {
        ledger.verify(client, "load/").await;
    }
}
