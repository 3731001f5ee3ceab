//! Log matching and state machine safety: an entry is known by index and term, what
//! precedes it too, and at an index that is committed there is one entry.

use std::collections::BTreeMap;

use etcd_proto::raftpb::Entry;
use etcd_replica::Persist;

use crate::trace::fold;

#[derive(Default)]
pub(super) struct LogMatching {
    /// By index and term: hash of the entry.
    entries: BTreeMap<(u64, u64), u64>,
    /// By index and term: the term before, once known.
    before: BTreeMap<(u64, u64), u64>,
    /// By member: terms of its log, as far as they are known.
    logs: BTreeMap<u64, BTreeMap<u64, u64>>,
    /// By index: term and hash of what is committed there, and who said so first.
    committed: BTreeMap<u64, (u64, u64, u64)>,
}

impl LogMatching {
    /// What the log of a member holds is not known any more.
    pub(super) fn restarted(&mut self, member: u64) {
        self.logs.remove(&member);
    }

    pub(super) fn appended(&mut self, member: u64, persist: &Persist) -> Result<(), String> {
        let log = self.logs.entry(member).or_default();
        if let Some(metadata) = persist.snapshot.as_ref().and_then(|s| s.metadata.as_ref()) {
            log.clear();
            log.insert(metadata.index, metadata.term);
        }
        for entry in &persist.entries {
            let id = (entry.index, entry.term);
            let hash = digest(entry);
            if *self.entries.entry(id).or_insert(hash) != hash {
                return Err(format!(
                    "log matching: {member:x} has another entry at index {} of term {}",
                    entry.index, entry.term
                ));
            }
            log.split_off(&entry.index);
            if let Some(&term) = log.get(&(entry.index - 1))
                && *self.before.entry(id).or_insert(term) != term
            {
                return Err(format!(
                    "log matching: {member:x} has another entry before index {} of term {}",
                    entry.index, entry.term
                ));
            }
            log.insert(entry.index, entry.term);
        }
        Ok(())
    }

    pub(super) fn committed(&mut self, member: u64, entries: &[Entry]) -> Result<(), String> {
        for entry in entries {
            let mine = (entry.term, digest(entry), member);
            let known = self.committed.entry(entry.index).or_insert(mine);
            if (known.0, known.1) != (mine.0, mine.1) {
                return Err(format!(
                    "state machine safety: at index {} {:x} has committed an entry of term {}, {member:x} one of term {}",
                    entry.index, known.2, known.0, mine.0
                ));
            }
        }
        Ok(())
    }
}

fn digest(entry: &Entry) -> u64 {
    fold(fold(entry.r#type as u64, b"entry"), &entry.data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, term: u64, data: &'static str) -> Entry {
        Entry {
            index,
            term,
            data: data.into(),
            ..Entry::default()
        }
    }

    fn persist(entries: Vec<Entry>) -> Persist {
        Persist {
            hard_state: None,
            entries,
            snapshot: None,
            must_sync: true,
            completion: None,
            then_send: Vec::new(),
        }
    }

    #[test]
    fn entries_that_differ_are_found() {
        let mut log = LogMatching::default();
        let good = persist(vec![entry(1, 1, "a"), entry(2, 1, "b")]);
        log.appended(1, &good).unwrap();
        log.appended(2, &good).unwrap();
        assert!(log.appended(3, &persist(vec![entry(2, 1, "c")])).is_err());
        let other = persist(vec![entry(1, 2, "x"), entry(2, 1, "b")]);
        assert!(log.appended(3, &other).is_err(), "the one before differs");
    }

    #[test]
    fn two_committed_entries_at_an_index_are_found() {
        let mut log = LogMatching::default();
        log.committed(1, &[entry(1, 1, "a")]).unwrap();
        log.committed(2, &[entry(1, 1, "a")]).unwrap();
        assert!(log.committed(3, &[entry(1, 2, "a")]).is_err());
    }
}
