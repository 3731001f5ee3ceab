//! Where a JSON object ends, found as its bytes arrive: each byte is looked at once, however
//! small the pieces are in which a client sends them.

/// How far the bytes of one object have been looked at.
#[derive(Debug, Default)]
pub(super) struct Scan {
    at: usize,
    /// Brackets that are open.
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Scan {
    /// Looks at what has arrived since; the length of the object once it is whole. Whether
    /// it is well-formed is for whoever reads it.
    ///
    /// `bytes` begins with the object's first byte, and grows from call to call.
    pub(super) fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        for byte in &bytes[self.at..] {
            self.at += 1;
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(self.at);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_ends_at_its_last_bracket_however_it_arrives() {
        for (text, whole) in [
            ("{}", "{}"),
            (r#"{"a":[1,{"b":"}"}]}{"c":2}"#, r#"{"a":[1,{"b":"}"}]}"#),
            (r#"{"a":"\"}\\"} rest"#, r#"{"a":"\"}\\"}"#),
            ("{]}", "{]"),
        ] {
            let mut at_once = Scan::default();
            assert_eq!(at_once.end(text.as_bytes()), Some(whole.len()), "{text}");
            let mut dripping = Scan::default();
            let ends = (1..=text.len()).find_map(|len| dripping.end(&text.as_bytes()[..len]));
            assert_eq!(ends, Some(whole.len()), "{text}");
        }
        for open in [r#"{"a":"#, r#"{"a":"}"#, r#"{"a":{}"#] {
            assert_eq!(Scan::default().end(open.as_bytes()), None, "{open}");
        }
    }
}
