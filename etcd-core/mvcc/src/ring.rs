//! Recent records: those that no segment holds yet.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::record::{Record, Revision};

/// Records in revision order, from the first that is not archived to the newest.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    records: VecDeque<Record>,
    bytes: usize,
}

impl Ring {
    /// Appends a record that is newer than all others.
    pub(crate) fn push(&mut self, record: Record) {
        debug_assert!(self.records.back().is_none_or(|last| last.rev < record.rev));
        self.bytes += record.cost();
        self.records.push_back(record);
    }

    /// Sum of [`Record::cost`].
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn read(&self, rev: Revision) -> Option<Bytes> {
        let record = self.records.get(self.position(rev))?;
        (record.rev == rev).then(|| record.value.clone())
    }

    /// The position of the first record not below `rev`.
    fn position(&self, rev: Revision) -> usize {
        let Some(first) = self.records.front() else {
            return 0;
        };
        // Main revisions follow each other without gaps, so each revision takes
        // at least one place: the record cannot stand before this one.
        let distance = rev.main.saturating_sub(first.rev.main).max(0);
        let mut low = usize::try_from(distance).unwrap_or(usize::MAX);
        if low >= self.records.len() || self.records[low].rev > rev {
            low = 0;
        }
        let mut step = 1;
        while low + step < self.records.len() && self.records[low + step].rev < rev {
            low += step;
            step *= 2;
        }
        let high = (low + step + 1).min(self.records.len());
        let (mut low, mut high) = (low, high);
        while low < high {
            let middle = (low + high) / 2;
            if self.records[middle].rev < rev {
                low = middle + 1
            } else {
                high = middle
            }
        }
        low
    }

    /// Up to `limit` records with `from <= revision` and a main revision of at
    /// most `to_main`.
    pub(crate) fn slice(&self, from: Revision, to_main: i64, limit: usize) -> Vec<Record> {
        let records = self.records.range(self.position(from)..);
        records
            .take_while(|r| r.rev.main <= to_main)
            .take(limit)
            .cloned()
            .collect()
    }

    /// Drops the records with a main revision of at most `main`.
    pub(crate) fn trim(&mut self, main: i64) {
        let count = self.position(Revision::new(main.saturating_add(1), 0));
        for record in self.records.drain(..count) {
            self.bytes -= record.cost();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(main: i64, sub: i64) -> Record {
        Record {
            rev: Revision::new(main, sub),
            tombstone: false,
            key: Bytes::from_static(b"k"),
            value: Bytes::from(format!("{main}.{sub}")),
            create_revision: main,
            version: 1,
            lease: 0,
            replaces: None,
        }
    }

    proptest! {
        #[test]
        fn finds_every_record(first in 2i64..50, subs in proptest::collection::vec(1i64..6, 0..60), probe in 0i64..120, sub in 0i64..8, trim in 0i64..120) {
            let mut ring = Ring::default();
            let mut list = Vec::new();
            for (i, subs) in subs.into_iter().enumerate() {
                for sub in 0..subs {
                    let record = record(first + i as i64, sub);
                    ring.push(record.clone());
                    list.push(record);
                }
            }
            for trimmed in [false, true] {
                if trimmed {
                    ring.trim(trim);
                    list.retain(|r| r.rev.main > trim);
                }
                let at = Revision::new(probe, sub);
                prop_assert_eq!(ring.bytes(), list.iter().map(Record::cost).sum::<usize>());
                prop_assert_eq!(ring.position(at), list.iter().filter(|r| r.rev < at).count());
                prop_assert_eq!(ring.read(at), list.iter().find(|r| r.rev == at).map(|r| r.value.clone()));
                let expected: Vec<Record> = list.iter().filter(|r| r.rev >= at && r.rev.main <= probe + 3).take(5).cloned().collect();
                prop_assert_eq!(ring.slice(at, probe + 3, 5), expected);
            }
        }
    }
}
