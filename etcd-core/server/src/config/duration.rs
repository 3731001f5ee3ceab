//! Durations in Go's notation, because that is what operators write on etcd's
//! command line (`1h30m`, `100ms`, `1.5s`) and read back from its log.

use std::fmt;
use std::time::Duration;

/// A signed span of time in nanoseconds, as Go's `time.Duration`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct GoDuration(pub i64);

/// Why a text is no duration. The message is Go's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not a sequence of numbers with units, or out of range.
    #[error("time: invalid duration {0:?}")]
    Invalid(String),
    /// A number without a unit.
    #[error("time: missing unit in duration {0:?}")]
    MissingUnit(String),
    /// A unit that does not exist.
    #[error("time: unknown unit {unit:?} in duration {text:?}")]
    UnknownUnit {
        /// What stood in the unit's place.
        unit: String,
        /// The whole text.
        text: String,
    },
}

const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

impl GoDuration {
    /// Reads Go's notation: an optional sign, then numbers with the units
    /// ns, us (µs), ms, s, m or h. A bare `0` needs no unit.
    pub fn parse(text: &str) -> Result<GoDuration, DurationError> {
        let invalid = || DurationError::Invalid(text.to_owned());
        let (negative, mut rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        if rest == "0" {
            return Ok(GoDuration(0));
        }
        if rest.is_empty() {
            return Err(invalid());
        }
        let mut total: u64 = 0;
        while !rest.is_empty() {
            let (whole, after) = digits(rest);
            let mut fraction = "";
            let mut tail = after;
            if let Some(t) = after.strip_prefix('.') {
                (fraction, tail) = digits(t);
            }
            if whole.is_empty() && fraction.is_empty() {
                return Err(invalid());
            }
            let end = tail
                .find(|c: char| c == '.' || c.is_ascii_digit())
                .unwrap_or(tail.len());
            let unit_name = &tail[..end];
            if unit_name.is_empty() {
                return Err(DurationError::MissingUnit(text.to_owned()));
            }
            let unit = match unit_name {
                "ns" => 1,
                "us" | "µs" | "μs" => MICROSECOND,
                "ms" => MILLISECOND,
                "s" => SECOND,
                "m" => MINUTE,
                "h" => HOUR,
                other => {
                    return Err(DurationError::UnknownUnit {
                        unit: other.to_owned(),
                        text: text.to_owned(),
                    });
                }
            };
            let mut part = match whole {
                "" => 0,
                w => w
                    .parse::<u64>()
                    .ok()
                    .and_then(|n| n.checked_mul(unit))
                    .ok_or_else(invalid)?,
            };
            // Digits past the 18th are below a nanosecond for every unit.
            let mut place = unit as f64;
            let mut extra = 0f64;
            for digit in fraction.bytes().take(18) {
                place /= 10.0;
                extra += f64::from(digit - b'0') * place;
            }
            // 1.1ms is 1.0999... in binary; the nanosecond meant is the nearest one.
            part = part
                .checked_add((extra + 1e-6).floor() as u64)
                .ok_or_else(invalid)?;
            total = total.checked_add(part).ok_or_else(invalid)?;
            rest = &tail[end..];
        }
        let limit = i64::MAX as u64;
        match (negative, total) {
            (true, t) if t == limit + 1 => Ok(GoDuration(i64::MIN)),
            (_, t) if t > limit => Err(invalid()),
            (true, t) => Ok(GoDuration(-(t as i64))),
            (false, t) => Ok(GoDuration(t as i64)),
        }
    }

    /// The span as the standard library's unsigned type; what is negative is
    /// zero (etcd treats both as "off").
    pub fn to_std(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0).unwrap_or(0))
    }
}

impl From<Duration> for GoDuration {
    fn from(d: Duration) -> GoDuration {
        GoDuration(i64::try_from(d.as_nanos()).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for GoDuration {
    /// Go's `Duration.String`: `1h0m0s`, `1.5s`, `100ms`, `0s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 0 {
            f.write_str("-")?;
        }
        let n = self.0.unsigned_abs();
        if n == 0 {
            return f.write_str("0s");
        }
        if n < SECOND {
            let (unit, name) = match n {
                n if n < MICROSECOND => (1, "ns"),
                n if n < MILLISECOND => (MICROSECOND, "µs"),
                _ => (MILLISECOND, "ms"),
            };
            return write!(f, "{}{name}", Decimal(n, unit));
        }
        let (hours, minutes, rest) = (n / HOUR, n % HOUR / MINUTE, n % MINUTE);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if n >= MINUTE {
            write!(f, "{minutes}m")?;
        }
        write!(f, "{}s", Decimal(rest, SECOND))
    }
}

/// `n / unit` in decimal without trailing zeros; `unit` is a power of ten.
struct Decimal(u64, u64);

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Decimal(n, unit) = *self;
        write!(f, "{}", n / unit)?;
        let fraction = n % unit;
        if fraction != 0 {
            let width = unit.ilog10() as usize;
            let digits = format!("{fraction:0width$}");
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        Ok(())
    }
}

fn digits(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_gos_notation() {
        for (text, nanos) in [
            ("0", 0),
            ("-0", 0),
            ("5s", 5_000_000_000),
            ("100ms", 100_000_000),
            ("1.5s", 1_500_000_000),
            ("1.1ms", 1_100_000),
            ("0.3ms", 300_000),
            (".5m", 30_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("-10us", -10_000),
            ("+2h", 7_200_000_000_000),
            ("3µs", 3_000),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
        ] {
            assert_eq!(GoDuration::parse(text), Ok(GoDuration(nanos)), "{text}");
        }
    }

    #[test]
    fn refuses_in_gos_words() {
        for (text, message) in [
            ("", "time: invalid duration \"\""),
            ("foo", "time: invalid duration \"foo\""),
            ("5", "time: missing unit in duration \"5\""),
            ("5x", "time: unknown unit \"x\" in duration \"5x\""),
            (".s", "time: invalid duration \".s\""),
            (
                "9223372036854775808ns",
                "time: invalid duration \"9223372036854775808ns\"",
            ),
        ] {
            let error = GoDuration::parse(text).expect_err(text);
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn prints_as_go_does() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_100, "1.1µs"),
            (300_000_000, "300ms"),
            (1_000_000_000, "1s"),
            (60_000_000_000, "1m0s"),
            (7_200_000_000_000, "2h0m0s"),
            (-1_500_000_000, "-1.5s"),
        ] {
            assert_eq!(GoDuration(nanos).to_string(), text);
        }
    }
}
