//! One member's process: the product's machines, driven as the server drives them,
//! with queues where the server has threads.
//!
//! ```text
//!  calls, messages ─► inbox ─► consensus ─► disk queue ─► (write, later sync) ─► inbox, peers
//!                                  └──────► apply queue ─► view, hub, answers ─► inbox
//!                                                 └─► checkpoint ─► apply and disk queues
//! ```

mod apply;
mod calls;
mod checkpoint;
mod consensus;
mod disk;
mod leases;
mod snapshot;
mod start;
mod watches;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use etcd_proto::raftpb::Message;
use etcd_replica::{Applier, Consensus, Input, View};
use etcd_storage::simdisk::SimDisk;
use etcd_storage::wal::Wal;

use crate::env::Env;
use crate::event::{Event, Pid, Turn};
use crate::planted::Planted;
use crate::request::Caller;

pub(crate) use disk::DiskTask;
pub(crate) use start::{DIRECTORY, start};

use apply::ApplyTask;
use checkpoint::Checkpointing;
use consensus::Reading;
use watches::Watches;

/// Length of a tick.
pub(crate) const TICK_US: u64 = 100_000;
/// Ticks of an election timeout.
pub(crate) const ELECTION_TICKS: u32 = 10;
/// Election timeout in milliseconds.
pub(crate) const ELECTION_MS: u64 = TICK_US / 1000 * ELECTION_TICKS as u64;

/// Why a process ends by itself.
#[derive(Debug)]
pub(crate) enum Death {
    /// Its disk failed.
    Disk(String),
    /// It was removed from the cluster.
    Removed,
    /// Something that must not happen, whatever the faults.
    Bug(String),
}

/// Who waits for a request.
struct Waiter {
    caller: Caller,
    /// When the server gives it up.
    deadline: u64,
}

/// A running process.
pub(crate) struct Process {
    pub(crate) pid: Pid,
    disk: SimDisk,
    quota: Option<u64>,
    pub(crate) consensus: Consensus,
    applier: Applier,
    wal: Wal,
    pub(crate) view: Arc<View>,
    leader: u64,
    pub(crate) term: u64,
    pub(crate) is_leader: bool,
    reads_alone: bool,
    /// Newest term whose first entry was applied here.
    begun: u64,
    primary: bool,

    inbox: Vec<Input>,
    stepping: bool,
    parked: Vec<Input>,
    reads: Vec<PendingRead>,
    reading: Option<Reading>,
    counter: u64,
    waiters: BTreeMap<u64, Waiter>,
    applied_waits: BTreeMap<u64, Vec<PendingRead>>,

    disk_tasks: VecDeque<DiskTask>,
    disk_batch: Option<disk::Batch>,
    disk_busy: bool,

    apply_tasks: VecDeque<ApplyTask>,
    apply_busy: bool,
    checkpointing: Checkpointing,
    watches: Watches,
}

/// A read that waits for its index.
enum PendingRead {
    Get {
        caller: Caller,
        key: Vec<u8>,
    },
    /// The lease was renewed already; the answer waits for the proof that this
    /// member was leader then.
    KeepAlive {
        caller: Caller,
        ttl: i64,
        term: u64,
    },
}

impl Process {
    /// Takes a turn.
    pub(crate) fn turn(&mut self, turn: Turn, env: &mut Env) -> Result<(), Death> {
        match turn {
            Turn::Tick => {
                self.tick(env);
                Ok(())
            }
            Turn::Consensus => self.step(env),
            Turn::DiskWrite => self.disk_write(env),
            Turn::DiskSync => self.disk_sync(env),
            Turn::Apply => self.apply_turn(env),
            Turn::Checkpoint => self.write_checkpoint(env),
            Turn::Watch => self.watch_turn(env),
            Turn::Leases => {
                self.look_for_expired(env);
                Ok(())
            }
        }
    }

    /// An input for consensus.
    pub(crate) fn receive(&mut self, input: Input, env: &mut Env) {
        self.inbox.push(input);
        if !self.stepping {
            self.stepping = true;
            env.soon(10, 500, self.event(Turn::Consensus));
        }
    }

    pub(crate) fn applied_index(&self) -> u64 {
        self.applier.index()
    }

    pub(crate) fn lease_count(&self) -> usize {
        self.applier.lessor().lock().len()
    }

    fn event(&self, turn: Turn) -> Event {
        Event::Turn(self.pid, turn)
    }

    /// A number that no other process has given.
    fn unique(&mut self) -> u64 {
        self.counter += 1;
        (self.pid.member & 0xffff) << 48 | u64::from(self.pid.life & 0xffff) << 32 | self.counter
    }

    fn send(&self, messages: Vec<Message>, env: &mut Env) {
        for message in messages {
            env.send(self.pid, message);
        }
    }

    fn plants(&self, env: &Env, bug: Planted) -> bool {
        env.is_planted(bug)
    }
}
