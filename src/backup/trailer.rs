//! The digest at the end of a snapshot file, checked while the file passes.

use sha2::{Digest as _, Sha256};

use super::{
    digest::hex,
    run::{Failure, Reason},
};

/// Bytes of the trailer: the SHA-256 of all bytes before it.
const TRAILER: usize = 32;

/// Digests a file, and what is before its trailer.
#[derive(Default)]
pub(crate) struct TrailerCheck {
    body: Sha256,
    /// The last bytes so far, which may be the trailer.
    tail: Vec<u8>,
    bytes: u64,
}

/// A file whose trailer is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Whole {
    /// Its bytes, trailer included.
    pub bytes: u64,
    /// Its SHA-256, trailer included, in hex.
    pub sha256: String,
}

impl TrailerCheck {
    /// Takes in the next bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        if bytes.len() >= TRAILER {
            self.body.update(&self.tail);
            let (body, tail) = bytes.split_at(bytes.len() - TRAILER);
            self.body.update(body);
            self.tail.clear();
            self.tail.extend_from_slice(tail);
            return;
        }
        self.tail.extend_from_slice(bytes);
        if self.tail.len() > TRAILER {
            let body = self.tail.len() - TRAILER;
            self.body.update(&self.tail[..body]);
            self.tail.drain(..body);
        }
    }

    /// Checks the trailer.
    ///
    /// # Errors
    /// With `reason`, if there is none or it is another.
    pub(crate) fn finish(self, reason: Reason, place: &str) -> Result<Whole, Failure> {
        // Pages are multiples of 512 bytes, and etcd tells a trailer by that.
        if self.bytes % 512 != TRAILER as u64 {
            return Err(Failure::new(
                reason,
                format!(
                    "{place} has {} bytes and no SHA-256 at its end: it is cut, or was not saved as a snapshot",
                    self.bytes
                ),
            ));
        }
        let mut whole = self.body.clone();
        whole.update(&self.tail);
        let (told, found) = (hex(&self.tail), hex(&self.body.finalize()));
        if told != found {
            return Err(Failure::new(
                reason,
                format!("{place} is damaged: its SHA-256 is {found}, and its end says {told}"),
            ));
        }
        Ok(Whole {
            bytes: self.bytes,
            sha256: hex(&whole.finalize()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::digest::sha256_hex;

    fn check(bytes: &[u8], piece: usize) -> Result<Whole, Failure> {
        let mut check = TrailerCheck::default();
        for piece in bytes.chunks(piece) {
            check.update(piece);
        }
        check.finish(Reason::Corrupt, "it")
    }

    #[test]
    fn a_trailer_is_found_however_the_file_comes() {
        let mut file: Vec<u8> = (0..2048_u32).map(|i| (i % 251) as u8).collect();
        let digest = Sha256::digest(&file);
        file.extend_from_slice(&digest);
        for piece in [1, 7, 31, 32, 33, 512, 4096] {
            let whole = check(&file, piece).unwrap();
            assert_eq!(
                (whole.bytes, whole.sha256),
                (2080, sha256_hex(&file)),
                "{piece}"
            );
        }
        for at in [0, 1000, 2047, 2048, 2079] {
            let mut flipped = file.clone();
            flipped[at] ^= 1;
            let failure = check(&flipped, 100).unwrap_err();
            assert!(failure.message.contains("damaged"), "{at}: {failure}");
        }
        for cut in [0, 31, 2048, 2079] {
            let failure = check(&file[..cut], 100).unwrap_err();
            assert!(
                failure.message.contains("no SHA-256 at its end"),
                "{cut}: {failure}"
            );
        }
    }
}
