//! An error with everything that caused it, for logs and events.

use std::error::Error;

/// The error and its causes, each once, joined by colons. Many errors say only what
/// was attempted and leave the why to their source.
pub(crate) fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("connects")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn the_why_is_told_once() {
        let error = Outer(std::io::Error::other("refused"));
        assert_eq!(causes(&error), "connects: refused");
    }
}
