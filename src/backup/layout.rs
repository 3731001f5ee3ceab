//! What lies where below a destination's prefix:
//!
//! ```text
//! etcd-backups.json                              whose backups these are (marker)
//! <folder>/manifest.json                         written last: this folder is a backup
//! <folder>/snapshot-<attempt>.db.zst.age         the image, packed
//! <folder>/snapshot-<attempt>.db.zst.age.attempt an upload may be under way
//! <folder>/export-<attempt>.keys.zst.age         exported keys, with a manifest of their own
//! increments/<cluster ID>/<revision>-<link>.inc  what changed after that revision
//! ```
//!
//! An artifact carries the name of the attempt that wrote it, so that of two runs for one
//! folder neither can change what the other's manifest speaks of.

use super::run::{Failure, Reason};
use crate::api::Compression;

/// Says whose the destination is.
pub(crate) const MARKER: &str = "etcd-backups.json";
/// Makes a folder a backup.
pub(crate) const MANIFEST: &str = "manifest.json";
/// Folder of the increments of all clusters.
pub(crate) const INCREMENTS: &str = "increments";
/// What the name of an attempt's record ends in.
pub(crate) const ATTEMPT: &str = ".attempt";
/// A manifest or marker that is longer is none.
pub(crate) const DOCUMENT_BYTES_MAX: u64 = 64 << 10;

/// Checks a folder's name.
///
/// # Errors
/// [`Reason::InvalidRun`] with what is allowed.
pub(crate) fn check_folder(folder: &str) -> Result<(), Failure> {
    let good = !folder.is_empty()
        && folder.len() <= 253
        && folder.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && folder
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.')
        && folder != INCREMENTS
        && folder != MARKER;
    if good {
        return Ok(());
    }
    Err(Failure::new(
        Reason::InvalidRun,
        format!(
            "folder {folder:?} is no name for a backup: it must be up to 253 lower-case letters, digits, '-' and '.', \
             begin with a letter or digit, and be neither {INCREMENTS:?} nor {MARKER:?}"
        ),
    ))
}

/// Checks the key of a bare file: no way out of the destination.
///
/// # Errors
/// [`Reason::InvalidRun`] with what is allowed.
pub(crate) fn check_key(key: &str) -> Result<(), Failure> {
    let good = !key.is_empty()
        && key.len() <= 1024
        && key
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..")
        && !key.contains(['\0', '\\']);
    if good {
        return Ok(());
    }
    Err(Failure::new(
        Reason::InvalidRun,
        format!(
            "key {key:?} names no file below the destination: it must be up to 1024 characters, parts joined by single \
             slashes, none of them empty, '.' or '..'"
        ),
    ))
}

/// The manifest of a folder.
pub(crate) fn manifest(folder: &str) -> String {
    format!("{folder}/{MANIFEST}")
}

/// An artifact of an attempt. `kind` is `snapshot` or `export`, `content` what it is when
/// unpacked.
pub(crate) fn artifact(
    folder: &str,
    kind: &str,
    attempt: &str,
    content: &str,
    compression: Compression,
    encrypted: bool,
) -> String {
    let compressed = match compression {
        Compression::Zstd => ".zst",
        Compression::Gzip => ".gz",
        Compression::None => "",
    };
    let encrypted = if encrypted { ".age" } else { "" };
    format!("{folder}/{kind}-{attempt}.{content}{compressed}{encrypted}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_single_plain_names() {
        for good in ["a", "demo-20261127", "0", "a.b-c"] {
            assert_eq!(check_folder(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "A",
            "increments",
            "etcd-backups.json",
            "-a",
            "ä",
            &"a".repeat(254),
        ] {
            assert_eq!(
                check_folder(bad).unwrap_err().reason,
                Reason::InvalidRun,
                "{bad}"
            );
        }
    }

    #[test]
    fn keys_stay_below_the_destination() {
        for good in ["snapshot.db", "a/b/c.db.gz", "Daily 1/x"] {
            assert_eq!(check_key(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "/etc/passwd",
            "../x",
            "a/../../b",
            "a//b",
            "a/",
            "a/.",
            "a\\b",
        ] {
            assert_eq!(
                check_key(bad).unwrap_err().reason,
                Reason::InvalidRun,
                "{bad}"
            );
        }
    }

    #[test]
    fn an_artifact_says_how_it_is_packed() {
        let name =
            |compression, encrypted| artifact("f", "snapshot", "1f", "db", compression, encrypted);
        assert_eq!(name(Compression::Zstd, true), "f/snapshot-1f.db.zst.age");
        assert_eq!(name(Compression::Gzip, false), "f/snapshot-1f.db.gz");
        assert_eq!(name(Compression::None, false), "f/snapshot-1f.db");
    }
}
