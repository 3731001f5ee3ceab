//! What was acknowledged, and the comparison with what is there.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::client::{Client, prefix};
use crate::cluster::AGREES_WITHIN;
use crate::load::Seen;
use crate::wait::eventually;

/// One acknowledged put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acked {
    /// The key; no other put uses it.
    pub key: Bytes,
    /// The value, unique as well.
    pub value: Bytes,
    /// The revision the acknowledgement named.
    pub revision: i64,
}

/// All that one run of writers knows.
#[derive(Debug, Default)]
pub struct Ledger {
    /// The acknowledged puts, in the order of each writer.
    pub acked: Vec<Acked>,
    /// Keys of puts that failed or timed out: each may be there or not, but at most once.
    pub ambiguous: Vec<Bytes>,
    /// The longest time in which no writer got an acknowledgement.
    pub longest_gap: Duration,
}

impl Ledger {
    /// Reads everything below `under` and checks that every acknowledged put is there
    /// as it was acknowledged, and nothing that was never sent.
    ///
    /// # Panics
    /// On the first difference, or if the read fails.
    pub async fn verify(&self, client: &Client, under: &str) {
        // An election may be under way where the writers stopped.
        let answer = eventually(AGREES_WITHIN, "the final read", async || {
            client.range(prefix(under)).await
        })
        .await;
        let found: BTreeMap<&[u8], (&[u8], i64)> = answer
            .kvs
            .iter()
            .map(|kv| (&kv.key[..], (&kv.value[..], kv.mod_revision)))
            .collect();
        for acked in &self.acked {
            let stored = found.get(&acked.key[..]);
            assert_eq!(
                stored,
                Some(&(&acked.value[..], acked.revision)),
                "the acknowledged put of {:?} at revision {} is lost",
                acked.key,
                acked.revision
            );
        }
        for kv in &answer.kvs {
            assert_eq!(
                (kv.version, kv.create_revision),
                (1, kv.mod_revision),
                "{:?} was applied twice",
                kv.key
            );
        }
        let sent: std::collections::BTreeSet<&[u8]> = self
            .acked
            .iter()
            .map(|acked| &acked.key[..])
            .chain(self.ambiguous.iter().map(|key| &key[..]))
            .collect();
        for key in found.keys() {
            assert!(sent.contains(key), "{key:?} was never sent");
        }
    }

    /// Checks that an observer saw every acknowledged put, at the revision that was acknowledged.
    ///
    /// # Panics
    /// On the first difference.
    pub fn verify_seen(&self, seen: &Seen) {
        for acked in &self.acked {
            assert_eq!(
                seen.puts.get(&acked.revision),
                Some(&acked.key),
                "an observer missed the put acknowledged at revision {}",
                acked.revision
            );
        }
    }
}
