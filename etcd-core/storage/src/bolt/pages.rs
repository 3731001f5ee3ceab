//! Pages on their way to a destination that is written front to back.

use std::io::{self, Write};

use super::{HEADER, PAGE_SIZE};

/// Bytes gathered before the destination is written to.
const WRITE_SIZE: usize = 128 * 1024;

/// Numbers the pages and gathers them.
pub(super) struct Pages<W> {
    out: W,
    buffer: Vec<u8>,
    /// Number of the next page.
    next: u64,
}

impl<W: Write> Pages<W> {
    /// The first page will have the number `next`.
    pub(super) fn new(out: W, next: u64) -> Pages<W> {
        Pages {
            out,
            buffer: Vec::with_capacity(WRITE_SIZE + 4 * PAGE_SIZE),
            next,
        }
    }

    /// Number of the next page.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Adds whole pages as they are.
    pub(super) fn raw(&mut self, pages: &[u8]) {
        debug_assert!(pages.len().is_multiple_of(PAGE_SIZE));
        self.buffer.extend_from_slice(pages);
        self.next += (pages.len() / PAGE_SIZE) as u64;
    }

    /// Adds a node of so many pages; the number of its first one.
    pub(super) fn node(
        &mut self,
        flags: u16,
        count: u16,
        pages: u64,
        elements: &[u8],
        data: &[u8],
    ) -> io::Result<u64> {
        let page = self.next;
        let end = self.buffer.len() + pages as usize * PAGE_SIZE;
        self.buffer.extend_from_slice(&page.to_le_bytes());
        self.buffer.extend_from_slice(&flags.to_le_bytes());
        self.buffer.extend_from_slice(&count.to_le_bytes());
        let overflow = (pages - 1) as u32;
        self.buffer.extend_from_slice(&overflow.to_le_bytes());
        self.buffer.extend_from_slice(elements);
        self.buffer.extend_from_slice(data);
        debug_assert!(self.buffer.len() <= end && elements.len() + data.len() + HEADER > 0);
        self.buffer.resize(end, 0);
        self.next += pages;
        if self.buffer.len() >= WRITE_SIZE {
            self.flush()?;
        }
        Ok(page)
    }

    /// Writes what is gathered and hands back the destination, flushed.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.flush()?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}
