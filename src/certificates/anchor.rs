//! Which of several CAs a certificate is from.

use std::{sync::Arc, time::Duration};

use rustls::{
    RootCertStore,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, UnixTime},
    server::WebPkiClientVerifier,
};

use super::inspect::{ders, seen};

/// Fingerprint of that CA of `authorities` that vouches for the first certificate of
/// `cert`, both PEM; `None` if none does. Whether it is still valid is not asked.
///
/// CAs that follow each other may bear the same name, so a name alone decides only
/// where no other CA has it too.
pub fn anchor(cert: &str, authorities: &str) -> Option<String> {
    let chain = ders(cert);
    let (leaf, above) = chain.split_first()?;
    let facts: Vec<_> = chain.iter().filter_map(|der| seen(der)).collect();
    let vouches = |ca: &CertificateDer<'_>| {
        let ca = seen(ca)?;
        let named = facts
            .iter()
            .any(|cert| cert.issuer == ca.subject || cert.fingerprint == ca.fingerprint);
        named.then_some(ca.fingerprint)
    };
    let named: Vec<(CertificateDer<'static>, String)> = ders(authorities)
        .into_iter()
        .filter_map(|ca| vouches(&ca).map(|fingerprint| (ca, fingerprint)))
        .collect();
    if let [(_, only)] = named.as_slice() {
        return Some(only.clone());
    }
    // All of the chain was valid then, if it ever was.
    let then = facts.iter().map(|cert| cert.not_before).max()?;
    let then = Duration::from_secs(u64::try_from(then.as_second()).ok()? + 1);
    named.into_iter().find_map(|(ca, fingerprint)| {
        let mut root = RootCertStore::empty();
        root.add(ca).ok()?;
        let provider = Arc::new(default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(root), provider);
        let verifier = verifier.build().ok()?;
        verifier
            .verify_client_cert(leaf, above, UnixTime::since_unix_epoch(then))
            .is_ok()
            .then_some(fingerprint)
    })
}
