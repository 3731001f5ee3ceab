//! Cipher suites by the names Go gives them, which are those of
//! `--cipher-suites`. They concern TLS 1.2 only; TLS 1.3 has its own three,
//! always on.

use rustls::SupportedCipherSuite;
use rustls::crypto::aws_lc_rs::cipher_suite as suites;

/// Suites of Go's list that can be offered here.
static OFFERED: &[(&str, SupportedCipherSuite)] = &[
    ("TLS_AES_128_GCM_SHA256", suites::TLS13_AES_128_GCM_SHA256),
    ("TLS_AES_256_GCM_SHA384", suites::TLS13_AES_256_GCM_SHA384),
    (
        "TLS_CHACHA20_POLY1305_SHA256",
        suites::TLS13_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        suites::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        suites::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
        suites::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        suites::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        suites::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        suites::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
        suites::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        suites::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
];

/// Suites Go knows and no modern library offers: without forward secrecy, or
/// with CBC, RC4 or 3DES. Named in a list they are skipped.
static OBSOLETE: &[&str] = &[
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
];

/// Whether Go has a suite of this name.
pub fn is_known(name: &str) -> bool {
    OFFERED.iter().any(|(known, _)| *known == name) || OBSOLETE.contains(&name)
}

/// The suites to offer for a list of names (empty: all), and the names among
/// them that cannot be.
pub fn choose(names: &[String]) -> (Vec<SupportedCipherSuite>, Vec<&str>) {
    let all = rustls::crypto::aws_lc_rs::DEFAULT_CIPHER_SUITES;
    if names.is_empty() {
        return (all.to_vec(), Vec::new());
    }
    // TLS 1.3 is not subject to the list.
    let mut chosen: Vec<SupportedCipherSuite> = all
        .iter()
        .filter(|suite| suite.tls13().is_some())
        .copied()
        .collect();
    let mut skipped = Vec::new();
    for name in names {
        match OFFERED.iter().find(|(known, _)| known == name) {
            Some((_, suite)) if chosen.contains(suite) => {}
            Some((_, suite)) => chosen.push(*suite),
            None => skipped.push(name.as_str()),
        }
    }
    (chosen, skipped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_limits_tls12_only() {
        let names = [
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256".to_owned(),
            "TLS_RSA_WITH_AES_128_CBC_SHA".to_owned(),
        ];
        let (chosen, skipped) = choose(&names);
        assert_eq!(
            chosen
                .iter()
                .filter(|suite| suite.tls13().is_none())
                .count(),
            1
        );
        assert_eq!(
            chosen
                .iter()
                .filter(|suite| suite.tls13().is_some())
                .count(),
            3
        );
        assert_eq!(skipped, ["TLS_RSA_WITH_AES_128_CBC_SHA"]);
    }
}
