//! Keys of increments, and what they say.
//!
//! The key of an increment names the revision it begins after, so that of two that would
//! go on from the same point the second is refused by the store. `b` marks one that begins
//! at a full backup because the changes before it are missing.

use super::{folder, frame::Link};
use crate::backup::store::Entry;

/// An increment in a listing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Found {
    /// The revision it begins after.
    pub after_revision: i64,
    /// Whether changes before it are missing.
    pub begins: bool,
    /// Its key.
    pub key: String,
    /// Its stored bytes.
    pub bytes: u64,
}

/// The key of an increment of a cluster.
pub(crate) fn key(cluster_id: &str, after_revision: i64, link: &Link) -> String {
    let link = match link {
        Link::Begins { .. } => 'b',
        Link::Continues { .. } => 'c',
    };
    format!("{}/{after_revision:016x}-{link}.inc", folder(cluster_id))
}

/// The increments among entries, in order.
pub(crate) fn listed(entries: Vec<Entry>) -> Vec<Found> {
    let mut found: Vec<Found> = entries.into_iter().filter_map(parse).collect();
    found.sort();
    found
}

fn parse(entry: Entry) -> Option<Found> {
    let name = entry.key.rsplit('/').next()?.strip_suffix(".inc")?;
    let (after, link) = name.split_once('-')?;
    let begins = match link {
        "b" => true,
        "c" => false,
        _ => return None,
    };
    Some(Found {
        after_revision: i64::from_str_radix(after, 16).ok()?,
        begins,
        key: entry.key,
        bytes: entry.bytes,
    })
}

/// Where in `found` a backup of `revision` is gone on from: the last one that begins at or
/// before it.
pub(crate) fn begins_after(found: &[Found], revision: i64) -> Option<usize> {
    found
        .partition_point(|increment| increment.after_revision <= revision)
        .checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_the_order_of_revisions() {
        let continues = Link::Continues {
            digest: String::new(),
        };
        let begins = Link::Begins {
            folder: String::new(),
            sha256: String::new(),
        };
        let mut keys: Vec<String> = [300, 5, 70_000, 1_000_000_007]
            .map(|after| key("1f", after, &continues))
            .into();
        keys.push(key("1f", 255, &begins));
        keys.push("increments/1f/notes.txt".to_owned());
        keys.push("increments/1f/xyz-c.inc".to_owned());
        let entries = keys
            .into_iter()
            .map(|key| Entry { key, bytes: 1 })
            .collect();
        let found = listed(entries);
        let order: Vec<(i64, bool)> = found.iter().map(|f| (f.after_revision, f.begins)).collect();
        assert_eq!(
            order,
            [
                (5, false),
                (255, true),
                (300, false),
                (70_000, false),
                (1_000_000_007, false)
            ]
        );
        assert_eq!(begins_after(&found, 4), None);
        assert_eq!(begins_after(&found, 5), Some(0));
        assert_eq!(begins_after(&found, 299), Some(1));
        assert_eq!(begins_after(&found, i64::MAX), Some(4));
    }
}
