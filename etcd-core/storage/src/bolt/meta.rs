//! The meta page: magic number, page size, root and high-water mark, under a checksum.

use super::{FLAG_META, HEADER, NO_FREELIST, PAGE_SIZE};

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;

/// Bytes of a meta page that are in use: the page's header and the meta itself.
pub(super) const META_END: usize = HEADER + 64;

/// Sizes in bytes that a page may have; the larger ones are those of other machines.
pub(super) const PAGE_SIZES: std::ops::RangeInclusive<u32> = 512..=65536;

/// The content of one meta page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meta {
    /// Bytes per page, a power of two.
    pub(super) page_size: u32,
    /// Page of the root bucket.
    pub(super) root: u64,
    /// Page of the freelist, or [`NO_FREELIST`].
    pub(super) freelist: u64,
    /// Number of pages in the file.
    pub(super) high_water: u64,
    /// Transaction that wrote this; of two valid metas the higher one counts.
    pub(super) txid: u64,
}

impl Meta {
    /// Reads the meta page that starts at `page`'s first byte; `None` if it is not valid.
    pub(super) fn decode(page: &[u8]) -> Option<Meta> {
        let meta = page.get(HEADER..META_END)?;
        let u32_at = |at: usize| le32(meta, at);
        let u64_at = |at: usize| le64(meta, at);
        let sound = u32_at(0) == MAGIC
            && u32_at(4) == VERSION
            && u64_at(56) == fnv1a(&meta[..56])
            && PAGE_SIZES.contains(&u32_at(8))
            && u32_at(8).is_power_of_two();
        sound.then(|| Meta {
            page_size: u32_at(8),
            root: u64_at(16),
            freelist: u64_at(32),
            high_water: u64_at(40),
            txid: u64_at(48),
        })
    }

    /// Appends this as meta page `page` (0 or 1), padded to a whole page.
    pub(super) fn encode(&self, page: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&page.to_le_bytes());
        out.extend_from_slice(&FLAG_META.to_le_bytes());
        out.extend_from_slice(&[0; 6]);
        out.extend_from_slice(&MAGIC.to_le_bytes());
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.page_size.to_le_bytes());
        out.extend_from_slice(&0u32.to_le_bytes());
        out.extend_from_slice(&self.root.to_le_bytes());
        out.extend_from_slice(&0u64.to_le_bytes());
        out.extend_from_slice(&self.freelist.to_le_bytes());
        out.extend_from_slice(&self.high_water.to_le_bytes());
        out.extend_from_slice(&self.txid.to_le_bytes());
        let sum = fnv1a(&out[start + HEADER..]);
        out.extend_from_slice(&sum.to_le_bytes());
        out.resize(start + self.page_size as usize, 0);
    }

    /// The page of the stored freelist, if it is stored at all.
    pub(super) fn stored_freelist(&self) -> Option<u64> {
        (self.freelist != NO_FREELIST).then_some(self.freelist)
    }
}

/// Transaction of the images that are written here. An even one is the first meta page's
/// own, so the next transaction overwrites the other, older one.
const TXID: u64 = 2;

/// The two meta pages of an image that is written here.
pub(super) fn heads(root: u64, high_water: u64) -> Vec<u8> {
    let mut pages = Vec::with_capacity(2 * PAGE_SIZE);
    for page in 0..2 {
        let meta = Meta {
            page_size: PAGE_SIZE as u32,
            root,
            freelist: NO_FREELIST,
            high_water,
            txid: TXID - page,
        };
        meta.encode(page, &mut pages);
    }
    pages
}

/// The little-endian number at `at`; the caller has checked the bounds.
pub(super) fn le16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// See [`le16`].
pub(super) fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from(le16(bytes, at)) | u32::from(le16(bytes, at + 2)) << 16
}

/// See [`le16`].
pub(super) fn le64(bytes: &[u8], at: usize) -> u64 {
    u64::from(le32(bytes, at)) | u64::from(le32(bytes, at + 4)) << 32
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
