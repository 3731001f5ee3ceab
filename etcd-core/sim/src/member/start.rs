//! From a disk to a process.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use etcd_replica::lease::{LeaseConfig, min_ttl_seconds};
use etcd_replica::{ApplierConfig, Boot, OpenError, RaftSettings, Recovered, open_with};
use etcd_storage::disk::Disk;
use etcd_storage::simdisk::SimDisk;
use etcd_storage::wal::Options;

use super::checkpoint::Checkpointing;
use super::watches::Watches;
use super::{ELECTION_MS, ELECTION_TICKS, Process, TICK_US};
use crate::env::Env;
use crate::event::{MS, Pid, Turn};
use crate::planted::Planted;

/// The member's directory on its disk.
pub(crate) const DIRECTORY: &str = "/data/member";
const WAL_DIRECTORY: &str = "/data/member/wal";
/// Why a process does not start.
pub(crate) type StartFailure = OpenError;

/// Opens what a disk holds, or makes it as `boot` says.
pub(crate) fn start(
    pid: Pid,
    disk: &SimDisk,
    boot: &Boot,
    quota: Option<u64>,
    env: &mut Env,
) -> Result<Process, StartFailure> {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let settings = RaftSettings {
        election_tick: ELECTION_TICKS,
        heartbeat_tick: 1,
        pre_vote: true,
        check_quorum: !(env.is_planted(Planted::SkipCheckQuorum)
            || env.is_planted(Planted::RenewAlone)),
        seed: env.random.next(),
        force_new_cluster: false,
    };
    let wal_options = Options {
        segment_bytes: env.settings.segment_bytes,
    };
    let recovered = open_with(
        &shared,
        Path::new(DIRECTORY),
        Path::new(WAL_DIRECTORY),
        boot,
        &settings,
        wal_options,
        |member_id| applier_config(member_id, quota),
    )?;
    let Recovered {
        consensus,
        applier,
        wal,
        checkpointed_index,
        ..
    } = recovered;
    let status = consensus.status();
    env.note(format_args!(
        "{:x}.{} starts: term {} vote {:x} log {}..={} commit {} checkpoint {checkpointed_index} revision {}",
        pid.member,
        pid.life,
        status.term,
        status.vote,
        status.first_index,
        status.last_index,
        status.commit,
        applier.view().kv.revision(),
    ));
    let view = Arc::new(applier.view());
    env.check.started(pid, &applier);
    let mut process = Process {
        pid,
        disk: disk.clone(),
        quota,
        consensus,
        watches: Watches::new(view.clone()),
        applier,
        wal,
        view,
        leader: 0,
        term: status.term,
        is_leader: false,
        reads_alone: false,
        begun: 0,
        primary: false,
        inbox: Vec::new(),
        stepping: true,
        parked: Vec::new(),
        reads: Vec::new(),
        reading: None,
        counter: 0,
        waiters: BTreeMap::new(),
        applied_waits: BTreeMap::new(),
        disk_tasks: VecDeque::new(),
        disk_batch: None,
        disk_busy: false,
        apply_tasks: VecDeque::new(),
        apply_busy: false,
        checkpointing: Checkpointing::new(checkpointed_index),
    };
    // Nobody can be disturbed by a member that has heard of nobody yet.
    if env.random.permille(500) {
        process
            .inbox
            .extend((1..ELECTION_TICKS).map(|_| etcd_replica::Input::Tick));
    }
    env.after(0, process.event(Turn::Consensus));
    env.soon(0, TICK_US, process.event(Turn::Tick));
    env.soon(0, 500 * MS, process.event(Turn::Leases));
    Ok(process)
}

fn applier_config(member_id: u64, quota: Option<u64>) -> ApplierConfig {
    ApplierConfig {
        member_id,
        max_learners: 2,
        quota_bytes: quota,
        lease: LeaseConfig {
            min_ttl: min_ttl_seconds(ELECTION_MS),
            ..LeaseConfig::default()
        },
    }
}

impl Process {
    pub(super) fn config(&self) -> ApplierConfig {
        applier_config(self.pid.member, self.quota)
    }
}
