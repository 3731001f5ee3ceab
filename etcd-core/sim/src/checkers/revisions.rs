//! Revisions never fall: of what a process publishes, nor of what clients are told of
//! the whole cluster.

use std::collections::BTreeMap;

use etcd_replica::View;

use crate::event::Pid;

#[derive(Clone, Copy, Default)]
struct Seen {
    revision: i64,
    compacted: i64,
    index: u64,
}

#[derive(Default)]
pub(super) struct Revisions {
    processes: BTreeMap<Pid, Seen>,
}

impl Revisions {
    pub(super) fn started(&mut self, pid: Pid) {
        self.processes.insert(pid, Seen::default());
    }

    pub(super) fn published(&mut self, pid: Pid, view: &View) -> Result<(), String> {
        let now = Seen {
            revision: view.kv.revision(),
            compacted: view.kv.compact_revision(),
            index: view.index,
        };
        let before = self.processes.insert(pid, now).unwrap_or_default();
        let fell = now.revision < before.revision
            || now.compacted.max(0) < before.compacted.max(0)
            || now.index < before.index;
        if fell {
            return Err(format!(
                "revisions: {:x} falls from revision {}, compacted {}, index {} to {}, {}, {}",
                pid.member,
                before.revision,
                before.compacted,
                before.index,
                now.revision,
                now.compacted,
                now.index
            ));
        }
        Ok(())
    }
}
