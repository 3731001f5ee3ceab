//! The last line of a process that SIGBUS ends, written without the help of anything that
//! allocates or locks.

use std::fmt::{self, Write};

/// Bytes of such a line; a path that does not fit is cut.
const LINE_BYTES: usize = 4096 + 512;

/// Writes to standard error that a page of the mapped file `path` is lost, as a line of
/// the log. To be called by a signal handler.
pub fn tell_of_lost_page(path: &[u8]) {
    let mut line = Line::default();
    // A line that is full is written as far as it goes.
    let _full = compose(&mut line, path, jiff::Timestamp::now());
    let mut left = &line.bytes[..line.len];
    while let Ok(written @ 1..) = rustix::io::write(std::io::stderr(), left) {
        left = left.get(written..).unwrap_or_default();
    }
}

fn compose(line: &mut Line, path: &[u8], now: jiff::Timestamp) -> fmt::Result {
    write!(
        line,
        r#"{{"level":"fatal","ts":"{now:.6}","caller":"log/lost_page.rs:{}","msg":"a page of a mapped file cannot be read: it was cut or overwritten, or the disk has lost it","file":""#,
        line!()
    )?;
    for chunk in path.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' | '\\' => write!(line, "\\{character}")?,
                other if other.is_control() => line.write_char('?')?,
                other => line.write_char(other)?,
            }
        }
        if !chunk.invalid().is_empty() {
            line.write_char('?')?;
        }
    }
    line.write_str("\"}\n")
}

/// Text in a place of its own.
struct Line {
    bytes: [u8; LINE_BYTES],
    len: usize,
}

impl Default for Line {
    fn default() -> Line {
        Line {
            bytes: [0; LINE_BYTES],
            len: 0,
        }
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let place = self.bytes.get_mut(self.len..self.len + text.len());
        place.ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &[u8]) -> String {
        let mut line = Line::default();
        let now = jiff::Timestamp::from_microsecond(1_700_000_000_123_456).unwrap();
        let _full = compose(&mut line, path, now);
        String::from_utf8(line.bytes[..line.len].to_vec()).unwrap()
    }

    #[test]
    fn the_line_is_json_whatever_the_path_is() {
        for (path, shown) in [
            (&b"/data/member/store/1.seg"[..], "/data/member/store/1.seg"),
            (b"/a \"b\"\\c\n\xff/d", "/a \"b\"\\c??/d"),
            (b"", ""),
        ] {
            let line: serde_json::Value = serde_json::from_str(&text(path)).unwrap();
            assert_eq!(line["file"], shown);
            assert_eq!(line["level"], "fatal");
            assert_eq!(line["ts"], "2023-11-14T22:13:20.123456Z");
        }
        assert!(text(&[b'x'; 10_000]).len() > 4000);
    }
}
