use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::config::features::FeatureGates;
use crate::config::{SocketOptions, TlsInfo, Url};
use crate::metrics::Metrics;
use crate::tls::tests::Authority;
use crate::tls::{client_config, server_config};

/// Answers every call with one message: the client's name, or "nobody".
async fn grpc(
    request: Request<RequestBody<Incoming>>,
) -> Result<Response<tonic::body::Body>, Infallible> {
    let name = {
        let info = request
            .extensions()
            .get::<ConnectionInfo>()
            .expect("a connection");
        info.common_name().unwrap_or("nobody").to_owned()
    };
    request.into_body().collect().await.expect("a request");
    let mut message = vec![0];
    message.extend_from_slice(&(name.len() as u32).to_be_bytes());
    message.extend_from_slice(name.as_bytes());
    let trailers = http::HeaderMap::from_iter([(
        http::HeaderName::from_static("grpc-status"),
        http::HeaderValue::from_static("0"),
    )]);
    let body = Full::new(Bytes::from(message)).with_trailers(async { Some(Ok(trailers)) });
    let body = tonic::body::Body::new(body.map_err(|never: Infallible| match never {}));
    let mut response = Response::new(body);
    let kind = http::HeaderValue::from_static("application/grpc");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, kind);
    Ok(response)
}

struct Server {
    address: String,
    limits: Limits,
    metrics: Arc<Metrics>,
}

fn serve(url: &str, tls: Option<&TlsInfo>) -> Server {
    let listener = bind(&Url::parse(url).expect("a URL"), SocketOptions::default()).expect("bound");
    let address = listener.address();
    let limits = Limits::new(100);
    let metrics = Arc::new(Metrics::new(false, &FeatureGates::default()));
    let security = tls.map(|info| Security {
        config: server_config(info, &[b"h2", b"http/1.1"]).expect("TLS"),
        check_address: false,
        endpoint: "client",
    });
    let service = ClientService {
        grpc: Some(tower::service_fn(grpc)),
        http: Some(Router::new().route("/health", get(|| async { "fine" }))),
        metrics: metrics.clone(),
        max_concurrent_streams: u32::MAX,
        keepalive: None,
        slow_request: Duration::from_secs(1),
    };
    tokio::spawn(serve_client(listener, security, limits.clone(), service));
    Server {
        address,
        limits,
        metrics,
    }
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

async fn secure(address: &str, info: &TlsInfo, protocol: &[u8]) -> std::io::Result<Box<dyn Io>> {
    let mut config = (*client_config(info).expect("TLS")).clone();
    config.alpn_protocols = vec![protocol.to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
    let mut stream = connector
        .connect(name, TcpStream::connect(address).await?)
        .await?;
    // In TLS 1.3 a client learns only by reading that its certificate was refused.
    stream.flush().await?;
    Ok(Box::new(stream))
}

async fn over_http1(io: impl Io) -> Result<String, hyper::Error> {
    let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await?;
    tokio::spawn(connection);
    let request = Request::get("/health")
        .header("host", "x")
        .body(Empty::<Bytes>::new());
    let response = send.send_request(request.expect("a request")).await?;
    assert_eq!(response.status(), StatusCode::OK);
    let body = response.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8_lossy(&body).into_owned())
}

async fn over_grpc(io: impl Io) -> Result<String, hyper::Error> {
    let executor = TokioExecutor::new();
    let (mut send, connection) =
        hyper::client::conn::http2::handshake(executor, TokioIo::new(io)).await?;
    tokio::spawn(connection);
    let request = Request::post("http://x/etcdserverpb.KV/Put")
        .header("content-type", "application/grpc")
        .header("client-api-version", "3.6")
        .body(Full::new(Bytes::from_static(&[0, 0, 0, 0, 2, 1, 2])));
    let response = send.send_request(request.expect("a request")).await?;
    let body = response.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8_lossy(&body[5..]).into_owned())
}

#[tokio::test]
async fn grpc_and_http_share_a_port() {
    let server = serve("http://127.0.0.1:0", None);
    let connect = || TcpStream::connect(server.address.clone());
    assert_eq!(
        over_http1(connect().await.expect("open"))
            .await
            .expect("an answer"),
        "fine"
    );
    assert_eq!(
        over_grpc(connect().await.expect("open"))
            .await
            .expect("an answer"),
        "nobody"
    );
    // The call's end is counted when its body is dropped, which is after the answer.
    let started: BTreeMap<&str, u64> = BTreeMap::from([
        (
            "grpc_server_started_total{grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 1",
            1,
        ),
        (
            "grpc_server_msg_received_total{grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 1",
            1,
        ),
        (
            "grpc_server_msg_sent_total{grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 1",
            1,
        ),
        (
            "grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 1",
            1,
        ),
        ("etcd_network_client_grpc_received_bytes_total 2", 1),
        ("etcd_network_client_grpc_sent_bytes_total 6", 1),
        (
            "etcd_server_client_requests_total{client_api_version=\"3.6\",type=\"unary\"} 1",
            1,
        ),
    ]);
    let text = server.metrics.render();
    for line in started.keys() {
        assert!(text.contains(line), "{line}");
    }
}

#[tokio::test]
async fn grpc_and_http_share_a_port_with_tls_and_names() {
    let authority = Authority::new();
    authority.issue("server", "s", &["localhost"], 1);
    authority.issue("client", "root", &[], 2);
    let server = serve("https://127.0.0.1:0", Some(&authority.info("server")));
    let client = authority.info("client");
    let io = secure(&server.address, &client, b"h2")
        .await
        .expect("a handshake");
    assert_eq!(over_grpc(io).await.expect("an answer"), "root");
    let io = secure(&server.address, &client, b"http/1.1")
        .await
        .expect("a handshake");
    assert_eq!(over_http1(io).await.expect("an answer"), "fine");
    let nobody = TlsInfo {
        trusted_ca_file: authority.path("ca.pem"),
        ..TlsInfo::default()
    };
    let refused = match secure(&server.address, &nobody, b"http/1.1").await {
        Ok(io) => over_http1(io).await.is_err(),
        Err(_) => true,
    };
    assert!(refused);
}

#[tokio::test]
async fn a_silent_client_keeps_nobody_waiting() {
    let authority = Authority::new();
    authority.issue("server", "s", &["localhost"], 1);
    let mut info = authority.info("server");
    info.trusted_ca_file = String::new();
    let server = serve("https://127.0.0.1:0", Some(&info));
    let _silent = TcpStream::connect(&server.address).await.expect("open");
    let io = secure(&server.address, &authority.info("server"), b"http/1.1")
        .await
        .expect("a handshake");
    assert_eq!(over_http1(io).await.expect("an answer"), "fine");
}

#[tokio::test]
async fn stopping_ends_idle_connections_and_frees_the_port() {
    let server = serve("http://127.0.0.1:0", None);
    let mut idle = TcpStream::connect(&server.address).await.expect("open");
    assert_eq!(
        over_http1(TcpStream::connect(&server.address).await.expect("open"))
            .await
            .expect("ok"),
        "fine"
    );
    let began = std::time::Instant::now();
    server.limits.finish(Duration::from_millis(500)).await;
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.expect("closed");
    let again = Url::parse(&format!("http://{}", server.address)).expect("a URL");
    bind(&again, SocketOptions::default()).expect("free");
}

#[tokio::test]
async fn sockets_are_bound_as_go_would() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("s");
    let url = Url::parse(&format!("unix://{}", path.display())).expect("a URL");
    let first = bind(&url, SocketOptions::default()).expect("bound");
    // A leftover of a process that was killed is replaced.
    std::mem::forget(first);
    let second = bind(&url, SocketOptions::default()).expect("bound again");
    drop(second);
    assert!(!path.exists());

    let everywhere = Url::parse("http://0.0.0.0:0").expect("a URL");
    let listener = bind(&everywhere, SocketOptions::default()).expect("bound");
    let port = listener
        .address()
        .rsplit(':')
        .next()
        .map(str::to_owned)
        .expect("a port");
    TcpStream::connect(format!("127.0.0.1:{port}"))
        .await
        .expect("open");
    let taken = Url::parse(&format!("http://127.0.0.1:{port}")).expect("a URL");
    let error = bind(&taken, SocketOptions::default()).expect_err("taken");
    assert_eq!(
        error.to_string(),
        format!("listen tcp 127.0.0.1:{port}: bind: address already in use")
    );
    let error = bind(
        &Url::parse("http://127.0.0.1:80000").expect("a URL"),
        SocketOptions::default(),
    );
    assert_eq!(
        error.expect_err("no port").to_string(),
        "listen tcp: address 80000: invalid port"
    );
}
