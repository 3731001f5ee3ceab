//! What happened, as a rolling hash and, if wanted, as text.

use std::collections::VecDeque;
use std::fmt::{self, Write};

/// Lines of text kept.
const LINES_MAX: usize = 4000;

/// The trace of a run. Two runs did the same exactly if their hashes are equal.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    events: u64,
    text: Option<VecDeque<String>>,
}

impl Trace {
    /// `text`: whether the lines are to be kept, not only their hash.
    pub(crate) fn new(text: bool) -> Trace {
        Trace {
            hash: 0xcbf2_9ce4_8422_2325,
            events: 0,
            text: text.then(VecDeque::new),
        }
    }

    /// Notes a line.
    pub(crate) fn note(&mut self, now_us: u64, line: fmt::Arguments<'_>) {
        self.events += 1;
        let mut hasher = Hasher(self.hash);
        let _infallible = write!(hasher, "{now_us} {line}");
        self.hash = hasher.0;
        if let Some(text) = &mut self.text {
            if text.len() == LINES_MAX {
                text.pop_front();
            }
            text.push_back(format!("{:>10.3} {line}", now_us as f64 / 1000.0));
        }
    }

    /// Hash of all lines so far.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// Number of lines so far.
    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    /// The last lines, if they were kept.
    pub(crate) fn into_lines(self) -> Vec<String> {
        self.text.unwrap_or_default().into()
    }
}

/// FNV-1a of 64 bits.
struct Hasher(u64);

impl Write for Hasher {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}

/// FNV-1a of bytes, continued from `hash`.
pub(crate) fn fold(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
