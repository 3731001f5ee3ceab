//! Numbers and booleans as Go's `flag` package reads them: a prefix may name
//! the base (`0x`, `0b`, `0o`, `0`), underscores may group digits.

/// Why a text is no number of the wanted size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// Not a number at all.
    #[error("parse error")]
    Syntax,
    /// A number, but too large or too small.
    #[error("value out of range")]
    Range,
}

/// Reads an unsigned number of at most `bits` bits.
pub fn parse_uint(text: &str, bits: u32) -> Result<u64, NumberError> {
    let lower = text.to_ascii_lowercase();
    let (base, digits, prefixed) = if let Some(d) = lower.strip_prefix("0x") {
        (16, d, true)
    } else if let Some(d) = lower.strip_prefix("0b") {
        (2, d, true)
    } else if let Some(d) = lower.strip_prefix("0o") {
        (8, d, true)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, &lower[1..], true)
    } else {
        (10, lower.as_str(), false)
    };
    // An underscore stands between digits or after a base prefix, alone.
    let misplaced =
        digits.ends_with('_') || digits.contains("__") || (digits.starts_with('_') && !prefixed);
    let plain = digits.replace('_', "");
    if misplaced || plain.is_empty() || !plain.chars().all(|c| c.is_digit(base)) {
        return Err(NumberError::Syntax);
    }
    let value = u64::from_str_radix(&plain, base).map_err(|_| NumberError::Range)?;
    if bits < 64 && value >> bits != 0 {
        return Err(NumberError::Range);
    }
    Ok(value)
}

/// Reads a signed 64-bit number.
pub fn parse_int(text: &str) -> Result<i64, NumberError> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let magnitude = parse_uint(digits, 64)?;
    let signed = match negative {
        true => 0i64.checked_sub_unsigned(magnitude),
        false => 0i64.checked_add_unsigned(magnitude),
    };
    signed.ok_or(NumberError::Range)
}

/// Reads a boolean in any of Go's spellings.
pub fn parse_bool(text: &str) -> Result<bool, NumberError> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(NumberError::Syntax),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_gos_numbers() {
        for (text, bits, want) in [
            ("100", 64, Ok(100)),
            ("1_000", 64, Ok(1000)),
            ("0x10", 64, Ok(16)),
            ("0x_10", 64, Ok(16)),
            ("010", 64, Ok(8)),
            ("0b11", 64, Ok(3)),
            ("0", 64, Ok(0)),
            ("", 64, Err(NumberError::Syntax)),
            ("-5", 64, Err(NumberError::Syntax)),
            ("abc", 64, Err(NumberError::Syntax)),
            ("_1", 64, Err(NumberError::Syntax)),
            ("08", 64, Err(NumberError::Syntax)),
            ("4294967295", 32, Ok(4294967295)),
            ("4294967296", 32, Err(NumberError::Range)),
            ("99999999999999999999", 64, Err(NumberError::Range)),
        ] {
            assert_eq!(parse_uint(text, bits), want, "{text}");
        }
        assert_eq!(parse_int("-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(parse_int("9223372036854775808"), Err(NumberError::Range));
        assert_eq!(parse_int("+5"), Ok(5));
        assert_eq!(parse_bool("T"), Ok(true));
        assert_eq!(parse_bool("yes"), Err(NumberError::Syntax));
    }
}
