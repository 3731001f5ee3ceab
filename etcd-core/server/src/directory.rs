//! Directories of the server: made with mode 0700, and writable.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// It cannot be made.
    #[error("mkdir {path}: {reason}", path = path.display())]
    Make {
        /// The directory.
        path: PathBuf,
        /// What the operating system says.
        reason: String,
    },
    /// It cannot be written to.
    #[error("open {path}: {reason}", path = path.display())]
    Write {
        /// The file that was tried.
        path: PathBuf,
        /// What the operating system says.
        reason: String,
    },
    /// It cannot be read.
    #[error("open {path}: {reason}", path = path.display())]
    Read {
        /// The directory.
        path: PathBuf,
        /// What the operating system says.
        reason: String,
    },
}

const PRIVATE: u32 = 0o700;

/// Makes a directory and those above it if need be, warns of one that others
/// may read, and tries to write in it.
pub fn touch(path: &Path) -> Result<(), DirectoryError> {
    match fs::metadata(path) {
        Ok(metadata) => {
            let mode = metadata.permissions().mode() & 0o777;
            if mode != PRIVATE {
                tracing::warn!(
                    directory = %path.display(),
                    mode = %format_args!("{mode:o}"),
                    "directory exists with a permission other than the recommended 700, which prevents possible unprivileged access to the data"
                );
            }
        }
        Err(_) => fs::DirBuilder::new()
            .recursive(true)
            .mode(PRIVATE)
            .create(path)
            .map_err(|error| DirectoryError::Make {
                path: path.to_owned(),
                reason: crate::go::io_error(&error),
            })?,
    }
    let probe = path.join(".touch");
    write_and_remove(&probe).map_err(|error| DirectoryError::Write {
        path: probe,
        reason: crate::go::io_error(&error),
    })
}

fn write_and_remove(probe: &Path) -> io::Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(probe)?;
    fs::remove_file(probe)
}

/// What a data directory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Nothing of a member's, or no directory at all.
    Empty,
    /// A member.
    Member,
    /// A v2 proxy of an etcd before 3.6.
    Proxy,
}

/// Looks what a data directory holds, and warns of what does not belong there.
pub fn identify(path: &Path) -> Result<Content, DirectoryError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Content::Empty),
        Err(error) => {
            return Err(DirectoryError::Read {
                path: path.to_owned(),
                reason: crate::go::io_error(&error),
            });
        }
    };
    let mut content = Content::Empty;
    for entry in entries.flatten() {
        match entry.file_name().to_string_lossy().as_ref() {
            "member" if content != Content::Proxy => content = Content::Member,
            "proxy" => content = Content::Proxy,
            // Where certificates of this member's own making are.
            "member" | "fixtures" => {}
            other => tracing::warn!(
                filename = other, "data-dir" = %path.display(),
                "found invalid file under data directory"
            ),
        }
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_made_private_and_tried() {
        let base = tempfile::tempdir().expect("a directory");
        let path = base.path().join("a/b");
        touch(&path).expect("made");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, PRIVATE);
        assert_eq!(fs::read_dir(&path).expect("a list").count(), 0);
        assert_eq!(identify(&path).expect("readable"), Content::Empty);
        fs::create_dir(path.join("member")).expect("made");
        assert_eq!(identify(&path).expect("readable"), Content::Member);
        fs::create_dir(path.join("proxy")).expect("made");
        assert_eq!(identify(&path).expect("readable"), Content::Proxy);
        let below_a_file = path.join("f/x");
        fs::write(path.join("f"), "").expect("written");
        let error = touch(&below_a_file).expect_err("not a directory");
        assert!(error.to_string().ends_with("not a directory"), "{error}");
    }
}
