//! The range of keys that a request names.

/// A request's `key` and `range_end`, read as etcd reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span<'a> {
    /// One key: `range_end` is empty.
    Key(&'a [u8]),
    /// `start <= key < end`; empty unless `start < end`.
    Range(&'a [u8], &'a [u8]),
    /// Every key from this one on: `range_end` is `\0`.
    From(&'a [u8]),
}

impl<'a> Span<'a> {
    /// Reads the two fields of a request.
    pub fn new(key: &'a [u8], range_end: &'a [u8]) -> Span<'a> {
        match range_end {
            [] => Span::Key(key),
            [0] => Span::From(key),
            end => Span::Range(key, end),
        }
    }

    /// Whether a key lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Span::Key(only) => key == *only,
            Span::Range(start, end) => *start <= key && key < *end,
            Span::From(start) => *start <= key,
        }
    }

    /// First key and exclusive end (`None`: open) of a range of more than one
    /// key; for one key the keys up to, not including, its successor cannot be
    /// named without allocation, so callers treat [`Span::Key`] apart.
    pub(crate) fn bounds(&self) -> Option<(&'a [u8], Option<&'a [u8]>)> {
        match *self {
            Span::Key(_) => None,
            Span::Range(start, end) if start < end => Some((start, Some(end))),
            Span::Range(..) => None,
            Span::From(start) => Some((start, None)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b014_b015_b016_spans_read_as_etcd_reads_them() {
        assert!(!Span::new(b"c", b"c").contains(b"c"));
        assert!(!Span::new(b"d", b"b").contains(b"c"));
        assert!(Span::new(b"\0", b"\0").contains(b"anything"));
        assert!(!Span::new(b"\0", b"\0").contains(b""));
        assert!(Span::new(b"b", b"\0").contains(b"zz"));
        assert!(!Span::new(b"b", b"\0").contains(b"a"));
        assert!(Span::new(b"a", b"").contains(b"a"));
        assert!(!Span::new(b"a", b"").contains(b"aa"));
        assert_eq!(Span::new(b"d", b"b").bounds(), None);
    }
}
