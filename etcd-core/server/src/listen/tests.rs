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
use crate::tls::{ClientTls, Material, ServerTls};

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
    serve_with(url, tls, Limits::new(100), None)
}

fn serve_with(
    url: &str,
    tls: Option<&TlsInfo>,
    limits: Limits,
    pings: Option<PingPolicy>,
) -> Server {
    let listener = bind(&Url::parse(url).expect("a URL"), SocketOptions::default()).expect("bound");
    let address = listener.address();
    let metrics = Arc::new(Metrics::new(false, &FeatureGates::default()));
    let security = tls.map(|info| Security {
        tls: Arc::new(
            ServerTls::new(Material::new(info.clone()), &[b"h2", b"http/1.1"]).expect("TLS"),
        ),
        plain_too: false,
        check_address: false,
        endpoint: "client",
    });
    let service = ClientService {
        grpc: Some(tower::service_fn(grpc)),
        http: Some(Router::new().route("/health", get(|| async { "fine" }))),
        metrics: metrics.clone(),
        max_concurrent_streams: u32::MAX,
        keepalive: None,
        pings,
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
    let tls = ClientTls::new(Material::new(info.clone())).expect("TLS");
    let mut config = (*tls.current()).clone();
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

/// Sends `bytes` over and over until the connection is closed, as it must be
/// soon; says how long that took.
async fn dribble(address: &str, first: &[u8], again: &[u8]) -> Duration {
    let began = std::time::Instant::now();
    let (mut read, mut write) = TcpStream::connect(address)
        .await
        .expect("open")
        .into_split();
    write.write_all(first).await.expect("sent");
    let dribbling = async {
        loop {
            if write.write_all(again).await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let closed = async {
        let mut rest = Vec::new();
        // Closed in either way.
        let _end = read.read_to_end(&mut rest).await;
    };
    tokio::select! {
        () = dribbling => {}
        () = closed => {}
        () = tokio::time::sleep(Duration::from_secs(20)) => panic!("it goes on"),
    }
    began.elapsed()
}

#[tokio::test]
async fn s32_who_dribbles_is_cut_off() {
    let authority = Authority::new();
    authority.issue("server", "s", &["localhost"], 1);
    let limit = Duration::from_millis(300);
    let limits = || Limits {
        patience: Patience {
            handshake: limit,
            preface: limit,
            head: limit,
        },
        ..Limits::new(100)
    };
    let secure = serve_with(
        "https://127.0.0.1:0",
        Some(&authority.info("server")),
        limits(),
        None,
    );
    let plain = serve_with("http://127.0.0.1:0", None, limits(), None);
    // A record of 512 bytes that never comes to its end.
    let handshake = dribble(&secure.address, &[22, 3, 1, 2, 0, 1, 0], &[0]).await;
    let head = dribble(
        &plain.address,
        b"GET /health HTTP/1.1\r\nhost: x\r\n",
        b"a: b\r\n",
    )
    .await;
    let preface = dribble(&plain.address, b"PRI * HTTP/2.0\r\n", b"").await;
    let silence = dribble(&plain.address, b"", b"").await;
    for took in [handshake, head, preface, silence] {
        assert!(took >= limit && took < 20 * limit, "{took:?}");
    }
    // Who has said what he speaks may be silent for as long as he likes: longer than
    // one who came later and did not.
    let mut idle = TcpStream::connect(&plain.address).await.expect("open");
    idle.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .expect("sent");
    dribble(&plain.address, b"", b"").await;
    idle.write_all(&[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8])
        .await
        .expect("sent");
    let pong = read_until(&mut idle, |kind, _| kind == 6).await;
    assert_eq!(pong, [1, 2, 3, 4, 5, 6, 7, 8]);
}

/// The payload of the first frame from the server that is asked for, by kind and flags.
async fn read_until(stream: &mut TcpStream, wanted: impl Fn(u8, u8) -> bool) -> Vec<u8> {
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.expect("a frame");
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await.expect("its payload");
        if wanted(head[3], head[4]) {
            return payload;
        }
    }
}

#[tokio::test]
async fn s38_too_many_pings_end_a_connection_with_the_reason() {
    let policy = PingPolicy::new(Duration::from_secs(5));
    let server = serve_with("http://127.0.0.1:0", None, Limits::new(100), Some(policy));
    let mut stream = TcpStream::connect(&server.address).await.expect("open");
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .expect("sent");
    for _ in 0..3 {
        stream
            .write_all(&[0, 0, 8, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
            .await
            .expect("sent");
        read_until(&mut stream, |kind, flags| kind == 6 && flags == 1).await;
    }
    stream
        .write_all(&[0, 0, 8, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        .await
        .expect("sent");
    let farewell = read_until(&mut stream, |kind, _| kind == 7).await;
    assert_eq!(farewell[4..8], [0, 0, 0, 11], "ENHANCE_YOUR_CALM");
    assert_eq!(&farewell[8..], b"too_many_pings");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.expect("closed");
}
