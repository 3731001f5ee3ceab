//! The HTTP client below the SDK: HTTP/1.1, TLS by rustls, no proxy, no redirects, and no
//! address that the destination does not allow.

use std::{
    fmt,
    future::Future,
    net::{IpAddr, SocketAddr},
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
    vec,
};

use aws_sdk_s3::{
    config::{
        RuntimeComponents, SharedHttpClient,
        http::{HttpRequest, HttpResponse},
    },
    error::ConnectorError,
    primitives::SdkBody,
};
use aws_smithy_runtime_api::client::http::{
    HttpConnector as SdkConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
    http_client_fn,
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{HttpConnector, dns::Name},
    },
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
};
use tower_service::Service;
use url::{Host, Url};

use super::super::address::Allowed;
use crate::backup::run::{Failure, Reason};

const CONNECT: Duration = Duration::from_secs(5);

/// An endpoint that resolves to nothing that may be dialled.
#[derive(Debug, thiserror::Error)]
#[error("{host} is not dialled: {why}")]
pub(super) struct Refused {
    host: String,
    why: String,
}

/// Resolves names to addresses that are allowed. It is asked for every connection, so a
/// name that changes its mind gains nothing.
#[derive(Clone)]
struct Resolver {
    allowed: Option<Allowed>,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let allowed = self.allowed;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(sift(name.as_str(), found.collect(), allowed)?.into_iter())
        })
    }
}

/// Those of `found` that are allowed; an error if none is.
fn sift(
    host: &str,
    found: Vec<SocketAddr>,
    allowed: Option<Allowed>,
) -> Result<Vec<SocketAddr>, Refused> {
    let Some(allowed) = allowed else {
        return Ok(found);
    };
    let mut why = "it has no address".to_owned();
    let mut good = Vec::new();
    for address in found {
        match allowed.refuses(address.ip()) {
            None => good.push(address),
            Some(reason) => why = reason,
        }
    }
    if good.is_empty() {
        return Err(Refused {
            host: host.to_owned(),
            why,
        });
    }
    Ok(good)
}

/// Checks an endpoint as it is written.
///
/// # Errors
/// [`Reason::InvalidRun`] if it is no URL of HTTP, [`Reason::EndpointRefused`] if it is an
/// address that is not allowed. A name is checked when it is resolved.
pub(super) fn check_endpoint(endpoint: &str, allowed: Allowed) -> Result<(), Failure> {
    let invalid = |why: &str| {
        Failure::new(
            Reason::InvalidRun,
            format!("s3.endpoint {endpoint:?} {why}"),
        )
    };
    let url = Url::parse(endpoint).map_err(|error| invalid(&format!("is no URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(invalid("must begin with https:// or http://"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err(invalid("must hold neither user, password nor query"));
    }
    // The parser reads every way in which an address can be written.
    let address = match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address),
        Some(Host::Ipv6(address)) => IpAddr::V6(address),
        Some(Host::Domain(_)) => return Ok(()),
        None => return Err(invalid("names no host")),
    };
    match allowed.refuses(address) {
        None => Ok(()),
        Some(why) => Err(Failure::new(
            Reason::EndpointRefused,
            format!("s3.endpoint {endpoint:?} is not dialled: {why}"),
        )),
    }
}

/// Authorities of a file, or Mozilla's.
///
/// # Errors
/// [`Reason::InvalidRun`] if the file is missing or holds none.
pub(super) fn roots(file: Option<&Path>) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    let Some(file) = file else {
        roots.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
        return Ok(roots);
    };
    let invalid = |why: String| {
        Failure::new(
            Reason::InvalidRun,
            format!(
                "authorities of the S3 endpoint in {}: {why}",
                file.display()
            ),
        )
    };
    let certificates =
        CertificateDer::pem_file_iter(file).map_err(|error| invalid(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| invalid(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| invalid(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(invalid("it holds no certificate".to_owned()));
    }
    Ok(roots)
}

/// A client that trusts `roots` and dials what is `allowed`; anything, if that is `None`:
/// the services of an ambient identity live on link-local addresses.
pub(super) fn client(roots: RootCertStore, allowed: Option<Allowed>) -> SharedHttpClient {
    let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("aws-lc-rs knows TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut tcp = HttpConnector::new_with_resolver(Resolver { allowed });
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    tcp.set_keepalive(Some(Duration::from_secs(30)));
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    let http = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(20))
        .build(https);
    let connector = SharedHttpConnector::new(Connector { http });
    http_client_fn(move |_: &HttpConnectorSettings, _: &RuntimeComponents| connector.clone())
}

struct Connector {
    http: Client<HttpsConnector<HttpConnector<Resolver>>, SdkBody>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

impl SdkConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let http = self.http.clone();
        HttpConnectorFuture::new(async move {
            let request = request
                .try_into_http1x()
                .map_err(|error| ConnectorError::user(error.into()))?;
            let response = http.request(request).await.map_err(|error| {
                let never = error.is_connect();
                let error = ConnectorError::io(error.into());
                if never {
                    error.never_connected()
                } else {
                    error
                }
            })?;
            HttpResponse::try_from(response.map(SdkBody::from_body_1_x))
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::EndpointNetwork;

    const PUBLIC: Allowed = Allowed {
        network: EndpointNetwork::Public,
        loopback: false,
    };

    #[test]
    fn x10_an_address_is_refused_however_the_url_writes_it() {
        for endpoint in [
            "https://127.0.0.1",
            "https://127.1:9000",
            "https://2130706433",
            "https://0x7f000001",
            "https://0177.0.0.1",
            "https://[::1]",
            "https://[::ffff:127.0.0.1]",
            "https://169.254.169.254/",
            "https://10.0.0.1",
            "http://192.168.1.1:9000",
        ] {
            let failure = check_endpoint(endpoint, PUBLIC).unwrap_err();
            assert_eq!(failure.reason, Reason::EndpointRefused, "{endpoint}");
            assert!(!failure.transient);
        }
        for endpoint in ["https://s3.example", "https://8.8.8.8:9000"] {
            assert_eq!(check_endpoint(endpoint, PUBLIC), Ok(()), "{endpoint}");
        }
        for endpoint in [
            "ftp://x",
            "x",
            "https://",
            "https://a:b@x",
            "https://x/?q=1",
        ] {
            let failure = check_endpoint(endpoint, PUBLIC).unwrap_err();
            assert_eq!(failure.reason, Reason::InvalidRun, "{endpoint}");
        }
    }

    #[test]
    fn x10_of_what_a_name_resolves_to_only_what_is_allowed_is_dialled() {
        let address = |text: &str| SocketAddr::new(text.parse().unwrap(), 0);
        let found = vec![address("10.0.0.1"), address("8.8.8.8")];
        assert_eq!(
            sift("s3.example", found, Some(PUBLIC)).unwrap(),
            [address("8.8.8.8")]
        );
        let refused = sift("s3.example", vec![address("10.0.0.1")], Some(PUBLIC)).unwrap_err();
        assert!(refused.to_string().contains("s3.endpointNetwork Private"));
    }

    #[test]
    fn mozillas_authorities_are_at_hand_where_no_file_says_otherwise() {
        assert!(roots(None).unwrap().len() > 50);
        let missing = roots(Some(Path::new("/nowhere/ca.crt"))).unwrap_err();
        assert_eq!(missing.reason, Reason::InvalidRun);
        assert!(missing.message.contains("/nowhere/ca.crt"));
    }
}
