//! The window of appends sent to a follower and not yet acknowledged.

use std::collections::VecDeque;

/// A sliding window bounded in messages and in payload bytes.
#[derive(Clone, Debug)]
pub(crate) struct Inflights {
    max_messages: usize,
    /// 0 is no limit.
    max_bytes: u64,
    bytes: u64,
    /// (index of the last entry, payload bytes) per message, in order of sending.
    window: VecDeque<(u64, u64)>,
}

impl Inflights {
    pub(crate) fn new(max_messages: usize, max_bytes: u64) -> Inflights {
        Inflights {
            max_messages,
            max_bytes,
            bytes: 0,
            window: VecDeque::new(),
        }
    }

    /// Adds a message whose last entry is `index`.
    pub(crate) fn add(&mut self, index: u64, bytes: u64) {
        debug_assert!(!self.full(), "a full window takes no message");
        self.window.push_back((index, bytes));
        self.bytes += bytes;
    }

    /// Frees every message whose last entry is at or below `index`.
    pub(crate) fn free_to(&mut self, index: u64) {
        while let Some((_, bytes)) = self.window.pop_front_if(|(last, _)| *last <= index) {
            self.bytes -= bytes;
        }
    }

    pub(crate) fn clear(&mut self) {
        self.window.clear();
        self.bytes = 0;
    }

    pub(crate) fn full(&self) -> bool {
        self.window.len() >= self.max_messages
            || (self.max_bytes != 0 && self.bytes >= self.max_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_full_by_messages() {
        let mut window = Inflights::new(2, 0);
        window.add(1, 1 << 40);
        assert!(!window.full());
        window.add(2, 1);
        assert!(window.full());
        window.free_to(1);
        assert!(!window.full());
    }

    #[test]
    fn is_full_by_bytes_and_may_overshoot_by_one_message() {
        let mut window = Inflights::new(100, 10);
        window.add(1, 9);
        assert!(!window.full());
        window.add(2, 9);
        assert!(window.full());
        window.free_to(2);
        assert_eq!((window.bytes, window.window.len()), (0, 0));
    }

    #[test]
    fn an_ack_inside_of_a_message_frees_only_those_before_it() {
        let mut window = Inflights::new(100, 0);
        for last in [3, 6, 9] {
            window.add(last, 1);
        }
        window.free_to(7);
        assert_eq!(window.window, [(9, 1)]);
    }
}
