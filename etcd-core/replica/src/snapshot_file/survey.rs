//! Which records of a file are visible at a revision, found in bounded memory.

use std::collections::BTreeMap;

use super::{SnapshotFile, SnapshotFileError};

/// Bytes of keys that are held at once, what they cost besides their content included.
const KEYS_BYTES_MAX: usize = 48 << 20;

/// What a key costs in a map, its content not included.
const KEY_BYTES: usize = 64;

/// Of all records, those that a reader at a revision sees.
pub(super) struct Survey {
    /// One bit for each record, by its number in the file.
    visible: Vec<u64>,
    /// How many are visible.
    pub(super) live: u64,
    /// The last record without a key. No client can write one: a restore does, to raise
    /// the revision.
    keyless: Option<u64>,
    /// Main revision of the last record of all; 0 if there is none.
    pub(super) last: i64,
}

impl Survey {
    /// Looks at the records up to main revision `at`.
    pub(super) fn of(file: &SnapshotFile, at: i64) -> Result<Survey, SnapshotFileError> {
        Survey::within(file, at, KEYS_BYTES_MAX)
    }

    /// A key's record is visible if none of the same key follows. To know that, each
    /// key's last record is remembered; if the keys are too many, only those of the
    /// lower half are, and the file is read once more for the others.
    pub(super) fn within(
        file: &SnapshotFile,
        at: i64,
        keys_bytes_max: usize,
    ) -> Result<Survey, SnapshotFileError> {
        let mut survey = Survey {
            visible: Vec::new(),
            live: 0,
            keyless: None,
            last: 0,
        };
        let mut low = Vec::new();
        loop {
            let next = survey.pass(file, at, &low, keys_bytes_max)?;
            match next {
                None => break,
                Some(next) => low = next,
            }
        }
        survey.live = survey
            .visible
            .iter()
            .map(|w| u64::from(w.count_ones()))
            .sum();
        Ok(survey)
    }

    /// How many are visible of those that a client can have written.
    pub(super) fn written(&self) -> u64 {
        let keyless = self.keyless.is_some_and(|it| self.is_visible(it));
        self.live - u64::from(keyless)
    }

    /// Whether the record of this number is visible.
    pub(super) fn is_visible(&self, number: u64) -> bool {
        let word = self.visible.get((number / 64) as usize);
        word.is_some_and(|word| word & (1 << (number % 64)) != 0)
    }

    fn set(&mut self, number: u64, visible: bool) {
        let at = (number / 64) as usize;
        if at >= self.visible.len() {
            self.visible.resize(at + 1, 0);
        }
        let bit = 1 << (number % 64);
        if visible {
            self.visible[at] |= bit;
        } else {
            self.visible[at] &= !bit;
        }
    }

    /// Settles the keys from `low` on, as many as fit; the first one that did not.
    fn pass(
        &mut self,
        file: &SnapshotFile,
        at: i64,
        low: &[u8],
        keys_bytes_max: usize,
    ) -> Result<Option<Vec<u8>>, SnapshotFileError> {
        let mut newest: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
        let mut held = 0;
        let mut high: Option<Vec<u8>> = None;
        let mut number = 0;
        file.records(&mut |record| {
            let own = number;
            number += 1;
            self.last = record.rev.main;
            let key = record.key.as_ref();
            let outside = key < low || high.as_ref().is_some_and(|high| key >= high.as_slice());
            if record.rev.main > at || outside {
                return Ok(());
            }
            self.set(own, !record.tombstone);
            if key.is_empty() {
                self.keyless = Some(own);
            }
            if let Some(before) = newest.get_mut(key) {
                self.set(std::mem::replace(before, own), false);
                return Ok(());
            }
            newest.insert(key.to_vec(), own);
            held += key.len() + KEY_BYTES;
            if held > keys_bytes_max && newest.len() > 1 {
                let middle = newest.keys().nth(newest.len() / 2).cloned();
                if let Some(middle) = middle {
                    // What was found of them is found again.
                    newest.split_off(&middle);
                    held = newest.keys().map(|key| key.len() + KEY_BYTES).sum();
                    high = Some(middle);
                }
            }
            Ok::<(), SnapshotFileError>(())
        })?;
        Ok(high)
    }
}
