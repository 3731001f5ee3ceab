//! `hashkv`.

use std::path::Path;

use crate::error::Error;
use crate::output::{Format, table};
use crate::snapshot::{open, unreadable};

/// Prints the hash of the history in `file` up to `revision`.
pub(crate) fn hashkv(file: &Path, revision: i64, format: Format) -> Result<(), Error> {
    let snapshot = open(file)?;
    let hash = snapshot.hash_kv(revision).map_err(unreadable(file))?;
    let (value, at, compacted) = (hash.hash, hash.revision, hash.compact_revision);
    match format {
        Format::Simple => println!("{value}, {at}, {compacted}"),
        Format::Json => {
            println!(r#"{{"hash":{value},"hashRevision":{at},"compactRevision":{compacted}}}"#)
        }
        Format::Fields => println!(
            "\"Hash\" : {value}\n\"Hash revision\" : {at}\n\"Compact revision\" : {compacted}"
        ),
        Format::Table => print!(
            "{}",
            table(&[
                ("HASH", value.to_string()),
                ("HASH REVISION", at.to_string()),
                ("COMPACT REVISION", compacted.to_string()),
            ])
        ),
    }
    Ok(())
}
