//! How Go words things that operators know from etcd's log.

use std::io;

/// An I/O error as Go prints it: the C library's text, without Rust's
/// `(os error N)`, in lower case.
pub fn io_error(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_errors_as_go_does() {
        let error = std::fs::read("/nonexistent").expect_err("absent");
        assert_eq!(io_error(&error), "no such file or directory");
    }
}
