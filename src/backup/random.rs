//! Randomness, for names that no other run may choose and for pauses that must not agree.

use std::time::Duration;

use rustls::crypto::aws_lc_rs;

/// A name of 16 hex digits that nobody else has.
pub(crate) fn name() -> String {
    format!("{:016x}", number())
}

/// A pause between half of `longest` and all of it.
pub(crate) fn jittered(longest: Duration) -> Duration {
    let half = longest / 2;
    let share = number() >> 33; // 31 bits
    half + half.mul_f64(share as f64 / f64::from(1_u32 << 31))
}

fn number() -> u64 {
    let mut bytes = [0; 8];
    aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut bytes)
        .expect("the kernel has random bytes");
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_pauses_stay_within_bounds() {
        assert_ne!(name(), name());
        assert_eq!(name().len(), 16);
        let longest = Duration::from_secs(8);
        for _ in 0..100 {
            let pause = jittered(longest);
            assert!(pause >= longest / 2 && pause <= longest, "{pause:?}");
        }
    }
}
