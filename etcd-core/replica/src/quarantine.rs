//! A note beside the manifest that a segment is damaged. At a start the values of the
//! segments are not read, so without it a member would serve again what is left, and end
//! again at the next reader of what is not.

use std::path::Path;

use etcd_storage::dir::unlink_if_exists;
use etcd_storage::disk::{Disk, DiskError, DiskResult, OpenMode};

use crate::archive::SegmentArchive;
use crate::checkpoint::store_directory;
use crate::damage::Damaged;
use crate::error::OpenError;

/// Name of the note in the store's directory: one line with the segment's name, one with
/// what is wrong with it.
const QUARANTINE_FILE: &str = "quarantine";
/// Name of a note that is being written.
const QUARANTINE_TEMPORARY: &str = "quarantine.tmp";

/// Notes durably that a segment of the member in `directory` is damaged.
///
/// # Errors
/// Of the disk.
pub fn quarantine(disk: &dyn Disk, directory: &Path, damaged: &Damaged) -> DiskResult<()> {
    let store = store_directory(directory);
    let name = damaged.file.file_name().unwrap_or_default();
    let note = format!("{}\n{}\n", name.to_string_lossy(), damaged.reason);
    let making = store.join(QUARANTINE_TEMPORARY);
    unlink_if_exists(disk, &making)?;
    let file = disk.create(&making)?;
    file.write_at(0, note.as_bytes())?;
    file.sync_data()?;
    disk.rename(&making, &store.join(QUARANTINE_FILE))?;
    disk.sync_dir(&store)
}

/// Refuses a store with a segment that was noted and is still damaged, if others can do
/// without this member. A note of a segment that is gone, or sound again (the memory was
/// at fault, or the file was put right), is removed.
pub(crate) fn check(
    disk: &dyn Disk,
    store: &Path,
    archive: &SegmentArchive,
    others_are_quorum: bool,
) -> Result<(), OpenError> {
    let path = store.join(QUARANTINE_FILE);
    let Some(name) = noted(disk, &path)? else {
        return Ok(());
    };
    let part = archive.parts().iter().find(|part| part.name == name);
    match part.map(|part| part.segment.verify()) {
        Some(Err(error)) if others_are_quorum => Err(OpenError::Quarantined(error)),
        Some(Err(error)) => {
            // It is told, and refused to whoever asks for it.
            archive.damage().note(&error);
            Ok(())
        }
        Some(Ok(())) | None => {
            unlink_if_exists(disk, &path)?;
            Ok(())
        }
    }
}

/// The segment that the note names.
fn noted(disk: &dyn Disk, path: &Path) -> Result<Option<String>, DiskError> {
    let file = match disk.open(path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = vec![0; usize::try_from(file.len()?).unwrap_or(usize::MAX)];
    let read = file.read_at(0, &mut bytes)?;
    bytes.truncate(read);
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().next().map(str::to_owned))
}
