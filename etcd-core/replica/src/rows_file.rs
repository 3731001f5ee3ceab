//! The file that holds the rows of a checkpoint.

use std::path::{Path, PathBuf};

use etcd_storage::disk::Disk;
use etcd_storage::rows;

use crate::error::StoreError;
use crate::schema::{Row, Rows};

/// Writes the rows into a new file and syncs it; its name.
pub(crate) fn write(disk: &dyn Disk, store: &Path, content: &Rows) -> Result<String, StoreError> {
    let mut generation = 0u32;
    let name = loop {
        let name = format!("{:016x}-{generation:04x}.rows", content.consistent_index);
        if !disk.exists(&store.join(&name))? {
            break name;
        }
        generation += 1;
    };
    let encoded: Vec<rows::Row> = content
        .encode()
        .into_iter()
        .map(|r| rows::Row {
            bucket: r.bucket,
            key: r.key,
            value: r.value,
        })
        .collect();
    rows::write(disk, &store.join(&name), &encoded)?;
    Ok(name)
}

/// Reads the rows of a checkpoint.
pub(crate) fn read(disk: &dyn Disk, store: &Path, name: &str) -> Result<Rows, StoreError> {
    let read = rows::read(disk, &store.join(name))?;
    let read = read.into_iter().map(|r| Row {
        bucket: r.bucket,
        key: r.key,
        value: r.value,
    });
    Ok(Rows::decode(read)?)
}

/// Files of rows other than the named one.
pub(crate) fn others(
    disk: &dyn Disk,
    store: &Path,
    name: &str,
) -> Result<Vec<PathBuf>, StoreError> {
    let mut others = Vec::new();
    for entry in disk.list(store)? {
        let found = entry.name.to_string_lossy();
        if found.ends_with(".rows") && found != name {
            others.push(store.join(&entry.name));
        }
    }
    Ok(others)
}
