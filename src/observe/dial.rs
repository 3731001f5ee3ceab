//! Connections to members with TLS: the pod's address, the member's name.

use std::{
    collections::HashMap,
    fmt, io,
    sync::{Arc, LazyLock},
    time::Duration,
};

use parking_lot::Mutex;
use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs::default_provider},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::certificates::{Pair, Purpose, fingerprint};

/// What one probe of a listener may take.
const GREETING: Duration = Duration::from_secs(3);

/// One for all: a thousand clusters have some thousand identities.
static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(default_provider()));

/// How the operator shows itself to a listener, and whom it believes.
#[derive(Clone)]
pub struct Identity(Arc<ClientConfig>);

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(..)")
    }
}

impl Identity {
    /// Shows `pair` and believes `authorities`, both PEM. `None` if they make no sense.
    pub fn new(pair: &Pair, authorities: &str, protocol: &'static [u8]) -> Option<Identity> {
        let mut roots = RootCertStore::empty();
        let ders = |text: &str| -> Vec<CertificateDer<'static>> {
            CertificateDer::pem_slice_iter(text.as_bytes())
                .map_while(Result::ok)
                .collect()
        };
        if roots.add_parsable_certificates(ders(authorities)).0 == 0 {
            return None;
        }
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).ok()?;
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER))
            .with_safe_default_protocol_versions()
            .ok()?
            .with_root_certificates(roots)
            .with_client_auth_cert(ders(&pair.cert), key)
            .ok()?;
        // A resumed session would repeat the certificate of the first one.
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![protocol.to_vec()];
        Some(Identity(Arc::new(config)))
    }
}

/// How a member is dialled.
#[derive(Clone, Debug)]
pub(super) struct Secure {
    pub(super) host: String,
    pub(super) identity: Identity,
}

/// Members that are dialled with TLS, by address, and what they showed the last time.
#[derive(Clone, Default)]
pub(super) struct Book {
    entries: Arc<Mutex<HashMap<String, Entry>>>,
    /// What listeners showed, by UID of the pod.
    greetings: Arc<Mutex<HashMap<(String, Purpose), String>>>,
}

/// Greetings that are remembered; beyond that all are forgotten, and asked for again.
const GREETINGS_MAX: usize = 50_000;

struct Entry {
    secure: Secure,
    served: Option<String>,
}

impl Book {
    /// Dials `ip` this way from now on; `None`: in plain.
    pub(super) fn write(&self, ip: &str, secure: Option<Secure>) {
        let mut book = self.entries.lock();
        match secure {
            Some(secure) => {
                let served = None;
                book.insert(ip.to_owned(), Entry { secure, served });
            }
            None => {
                book.remove(ip);
            }
        }
    }

    pub(super) fn secure(&self, ip: &str) -> Option<Secure> {
        self.entries
            .lock()
            .get(ip)
            .map(|entry| entry.secure.clone())
    }

    pub(super) fn note(&self, ip: &str, served: String) {
        if let Some(entry) = self.entries.lock().get_mut(ip) {
            entry.served = Some(served);
        }
    }

    pub(super) fn last_greeting(&self, pod_uid: &str, purpose: Purpose) -> Option<String> {
        let greetings = self.greetings.lock();
        greetings.get(&(pod_uid.to_owned(), purpose)).cloned()
    }

    pub(super) fn note_greeting(&self, pod_uid: &str, purpose: Purpose, served: &str) {
        let mut greetings = self.greetings.lock();
        if greetings.len() >= GREETINGS_MAX {
            greetings.clear();
        }
        greetings.insert((pod_uid.to_owned(), purpose), served.to_owned());
    }

    /// Fingerprint of the certificate that was last shown at `ip`.
    pub(super) fn served(&self, ip: &str) -> Option<String> {
        self.entries.lock().get(ip)?.served.clone()
    }
}

/// Connects to `ip`, and believes it to be `secure.host`. With the fingerprint of the
/// certificate it showed.
pub(super) async fn connect(
    ip: &str,
    port: u16,
    secure: &Secure,
) -> io::Result<(TlsStream<TcpStream>, String)> {
    let tcp = TcpStream::connect((ip, port)).await?;
    tcp.set_nodelay(true)?;
    let host = ServerName::try_from(secure.host.clone()).map_err(io::Error::other)?;
    let connector = TlsConnector::from(Arc::clone(&secure.identity.0));
    let stream = connector.connect(host, tcp).await?;
    let shown = stream.get_ref().1.peer_certificates();
    let leaf = shown.and_then(|chain| chain.first());
    let leaf = leaf.map(|leaf| fingerprint(leaf)).unwrap_or_default();
    Ok((stream, leaf))
}

/// What a listener did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Greeting {
    /// Fingerprint of the certificate it showed; `None`: it could not be reached, or
    /// was not believed.
    pub served: Option<String>,
    /// Whether it took ours; `None`: that is not known.
    pub accepted: Option<bool>,
}

/// Asks a listener for `/version`, to see what it shows and whether it takes us. In
/// TLS 1.3 a refusal comes only after the handshake.
pub(super) async fn greet(ip: &str, port: u16, secure: &Secure) -> Greeting {
    let mut greeting = Greeting::default();
    let talk = async {
        let (mut stream, leaf) = match connect(ip, port, secure).await {
            Ok(connected) => connected,
            // In TLS 1.2 the refusal ends the handshake.
            Err(error) => return (None, refusal(&error)),
        };
        let request = format!(
            "GET /version HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            secure.host
        );
        let mut head = [0_u8; 5];
        let answer = async {
            stream.write_all(request.as_bytes()).await?;
            stream.read_exact(&mut head).await
        };
        match answer.await {
            Ok(_) if &head == b"HTTP/" => (Some(leaf), Some(true)),
            Ok(_) => (Some(leaf), None),
            Err(error) => (Some(leaf), refusal(&error)),
        }
    };
    if let Ok((served, accepted)) = tokio::time::timeout(GREETING, talk).await {
        greeting = Greeting { served, accepted };
    }
    greeting
}

/// `Some(false)` if the other side said that it does not take our certificate.
fn refusal(error: &io::Error) -> Option<bool> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    matches!(error, rustls::Error::AlertReceived(_)).then_some(false)
}

#[cfg(test)]
mod tests;
