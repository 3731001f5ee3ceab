use std::collections::BTreeMap;
use std::sync::Arc;

const PAGE_BYTES: u64 = 4096;

/// What a disk writes as a whole.
pub(super) const SECTOR_BYTES: u64 = 512;

/// The bytes of a file. Only pages that were written take memory, and copies share
/// them.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    len: u64,
    pages: BTreeMap<u64, Arc<[u8; PAGE_BYTES as usize]>>,
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let available = self.len.saturating_sub(offset).min(buffer.len() as u64) as usize;
        for (page, within, range) in pieces(offset, available) {
            let to = &mut buffer[range.clone()];
            match self.pages.get(&page) {
                Some(bytes) => to.copy_from_slice(&bytes[within..within + range.len()]),
                None => to.fill(0),
            }
        }
        available
    }

    pub(super) fn write(&mut self, offset: u64, data: &[u8]) {
        for (page, within, range) in pieces(offset, data.len()) {
            let page = self
                .pages
                .entry(page)
                .or_insert_with(|| Arc::new([0; 4096]));
            Arc::make_mut(page)[within..within + range.len()].copy_from_slice(&data[range]);
        }
        self.grow(offset + data.len() as u64);
    }

    pub(super) fn grow(&mut self, len: u64) {
        self.len = self.len.max(len);
    }

    pub(super) fn truncate(&mut self, len: u64) {
        if len < self.len {
            self.pages.split_off(&len.div_ceil(PAGE_BYTES));
            if let Some(page) = self.pages.get_mut(&(len / PAGE_BYTES)) {
                Arc::make_mut(page)[(len % PAGE_BYTES) as usize..].fill(0);
            }
        }
        self.len = len;
    }

    pub(super) fn flip(&mut self, offset: u64, bit: u8) {
        let mut byte = [0];
        if self.read(offset, &mut byte) == 1 {
            self.write(offset, &[byte[0] ^ (1 << (bit % 8))]);
        }
    }
}

/// Splits `len` bytes at `offset` along the pages: page, place within it, place in the
/// buffer.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        let within = (at % PAGE_BYTES) as usize;
        let size = (PAGE_BYTES as usize - within).min(len - done);
        let range = done..done + size;
        done += size;
        Some((at / PAGE_BYTES, within, range))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_behaves_like_a_vector_of_bytes() {
        let mut content = Content::default();
        content.write(5000, b"abc");
        content.write(4094, b"1234");
        assert_eq!(content.len(), 5003);
        let mut buffer = [9; 8];
        assert_eq!(content.read(4092, &mut buffer), 8);
        assert_eq!(&buffer, b"\0\x001234\0\0");
        content.truncate(4095);
        content.grow(9000);
        assert_eq!(content.read(4092, &mut buffer), 8);
        assert_eq!(&buffer, b"\0\x001\0\0\0\0\0");
        assert_eq!(content.read(8996, &mut buffer), 4);
        assert_eq!(content.read(9001, &mut buffer), 0);
    }
}
