//! How far the operator gets before it dies.

/// Counts writes, and says when the operator dies.
pub(super) struct Writes {
    left: Option<usize>,
}

impl Writes {
    /// The operator dies after `cut` writes, or not at all.
    pub(super) fn until(cut: Option<usize>) -> Writes {
        Writes { left: cut }
    }

    /// Whether it lives to do its next write.
    pub(super) fn next(&mut self) -> bool {
        match &mut self.left {
            None => true,
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }
}
