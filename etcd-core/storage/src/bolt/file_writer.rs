//! An image of which nothing is known beforehand, written into a file of its own.

use std::io::{self, Write};
use std::path::Path;

use super::layout::{FIRST_PAGE, check_key, lossy};
use super::meta::heads;
use super::pages::Pages;
use super::tree::Tree;
use super::writer::{push_row, write_roots};
use super::{LayoutError, PAGE_SIZE};
use crate::disk::{Disk, DiskError, DiskResult, File};

/// Writes a bbolt file bucket by bucket, in one pass: the meta pages, which say where
/// the root is, are written last. Holds one page of each level of a tree.
pub struct FileWriter {
    out: Pages<Behind>,
    /// Buckets that are finished, and the pages of their roots.
    roots: Vec<(Vec<u8>, u64)>,
    open: Option<(Vec<u8>, Tree)>,
    last_key: Vec<u8>,
}

impl FileWriter {
    /// Creates the file. Until [`FileWriter::finish`] it is worthless, and nothing takes
    /// it for a database.
    ///
    /// # Errors
    /// Those of the disk; also if the name exists.
    pub fn create(disk: &dyn Disk, path: &Path) -> DiskResult<FileWriter> {
        let out = Behind {
            file: disk.create(path)?,
            at: FIRST_PAGE * PAGE_SIZE as u64,
        };
        Ok(FileWriter {
            out: Pages::new(out, FIRST_PAGE),
            roots: Vec::new(),
            open: None,
            last_key: Vec::new(),
        })
    }

    /// Begins the next bucket. Names ascend strictly.
    ///
    /// # Errors
    /// [`LayoutError::KeySize`], [`LayoutError::Order`] or [`LayoutError::Write`].
    pub fn bucket(&mut self, name: &[u8]) -> Result<(), LayoutError> {
        check_key(name.len())?;
        self.close()?;
        if self.roots.last().is_some_and(|(last, _)| **last >= *name) {
            return Err(LayoutError::Order {
                bucket: lossy(name),
            });
        }
        self.open = Some((name.to_vec(), Tree::default()));
        self.last_key.clear();
        Ok(())
    }

    /// Adds a row to the bucket. Keys ascend strictly.
    ///
    /// # Errors
    /// [`LayoutError::KeySize`], [`LayoutError::ValueSize`], [`LayoutError::Order`],
    /// [`LayoutError::NoBucket`] or [`LayoutError::Write`].
    pub fn row(&mut self, key: &[u8], value: &[u8]) -> Result<(), LayoutError> {
        let (name, tree) = self.open.as_mut().ok_or(LayoutError::NoBucket)?;
        push_row(tree, &mut self.last_key, name, key, value, &mut self.out)
    }

    /// Ends the image and syncs the file; its length in bytes. The caller syncs the
    /// directory.
    ///
    /// # Errors
    /// [`LayoutError::Write`].
    pub fn finish(mut self) -> Result<u64, LayoutError> {
        self.close()?;
        let roots = self.roots.iter().map(|(name, root)| (name, *root));
        let root = write_roots(roots, &mut self.out)?;
        let high_water = self.out.next();
        let file = self.out.finish()?.file;
        file.write_at(0, &heads(root, high_water))
            .and_then(|()| file.sync_data())
            .map_err(kept)?;
        Ok(high_water * PAGE_SIZE as u64)
    }

    fn close(&mut self) -> Result<(), LayoutError> {
        if let Some((name, tree)) = self.open.take() {
            let root = tree.finish(&mut self.out)?;
            self.roots.push((name, root));
        }
        Ok(())
    }
}

/// Keeps the kind: whoever writes a file wants to know that the disk is full.
fn kept(error: DiskError) -> io::Error {
    io::Error::new(error.source.kind(), error)
}

/// Appends to a file.
struct Behind {
    file: Box<dyn File>,
    at: u64,
}

impl Write for Behind {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_at(self.at, bytes).map_err(kept)?;
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
