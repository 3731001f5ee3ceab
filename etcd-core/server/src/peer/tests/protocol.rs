//! Single requests, with status codes and bodies that stock members rely on.

use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use prost::Message as _;

use super::super::headers::*;
use super::*;

/// Sends one request with the headers of member 1 of the cluster, changed by `change`.
async fn ask(
    host: &Host,
    method: Method,
    path: &str,
    body: Vec<u8>,
    change: impl FnOnce(&mut HeaderMap),
) -> (StatusCode, HeaderMap, String) {
    let stream = tokio::net::TcpStream::connect(host.address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let mut request = Request::new(Full::<bytes::Bytes>::from(body));
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().unwrap();
    let headers = request.headers_mut();
    for (name, value) in [
        (http::header::HOST, "peer"),
        (SERVER_FROM, "1"),
        (SERVER_VERSION, "3.7.3"),
        (MIN_CLUSTER_VERSION, "3.0.0"),
        (CLUSTER_ID, "cafe"),
        (RAFT_TO, "2"),
    ] {
        headers.insert(name, value.parse().unwrap());
    }
    change(headers);
    let answer = sender.send_request(request).await.unwrap();
    let (parts, mut body) = answer.into_parts();
    // A stream does not end, so one frame has to do.
    let mut text = String::new();
    if let Some(Ok(frame)) = timeout(PATIENCE, body.frame()).await.unwrap() {
        text = String::from_utf8_lossy(&frame.into_data().unwrap_or_default()).into_owned();
    }
    (parts.status, parts.headers, text)
}

fn set(name: http::HeaderName, value: &'static str) -> impl FnOnce(&mut HeaderMap) {
    move |headers| {
        headers.insert(name, value.parse().unwrap());
    }
}

fn unchanged(_: &mut HeaderMap) {}

const STREAM: &str = "/raft/stream/message/1";

#[tokio::test]
async fn members_of_another_cluster_or_age_are_refused() {
    let two = Host::start(2).await;
    two.transport
        .add_peer(1, &["http://127.0.0.1:1".to_owned()]);
    for (method, path) in [
        (Method::POST, "/raft"),
        (Method::POST, "/raft/snapshot"),
        (Method::GET, STREAM),
    ] {
        let ask = async |change: Box<dyn FnOnce(&mut HeaderMap)>| {
            ask(&two, method.clone(), path, vec![], change).await
        };
        let (status, headers, body) = ask(Box::new(set(CLUSTER_ID, "beef"))).await;
        assert_eq!(
            (status, &*body),
            (StatusCode::PRECONDITION_FAILED, "cluster ID mismatch\n")
        );
        assert_eq!(headers[CLUSTER_ID], "cafe");
        type Change = Box<dyn FnOnce(&mut HeaderMap)>;
        let changes: [Change; 5] = [
            Box::new(set(SERVER_VERSION, "2.3.0")),
            Box::new(set(SERVER_VERSION, "new")),
            Box::new(set(MIN_CLUSTER_VERSION, "3.8.0")),
            Box::new(|headers| drop(headers.remove(SERVER_VERSION))),
            Box::new(set(MIN_CLUSTER_VERSION, "4")),
        ];
        for change in changes {
            let (status, _, body) = ask(change).await;
            assert_eq!(
                (status, &*body),
                (StatusCode::PRECONDITION_FAILED, "incompatible version\n")
            );
        }
    }
    // A newer one decides for itself.
    let (status, headers, _) = ask(
        &two,
        Method::GET,
        STREAM,
        vec![],
        set(SERVER_VERSION, "3.9.0"),
    )
    .await;
    assert_eq!(
        (status, &headers[SERVER_VERSION]),
        (StatusCode::OK, &"3.7.3".parse().unwrap())
    );
}

#[tokio::test]
async fn streams_are_only_for_members() {
    let two = Host::start(2).await;
    let get = async |path: &str| {
        let (status, _, body) = ask(&two, Method::GET, path, vec![], unchanged).await;
        (status.as_u16(), body)
    };
    assert_eq!(
        get(STREAM).await,
        (404, "error sender not found\n".to_owned())
    );
    assert!(two.transport.link(1).is_none(), "it named no URLs");
    let urls = set(PEER_URLS, "http://127.0.0.1:1,http://127.0.0.1:2");
    assert_eq!(
        ask(&two, Method::GET, STREAM, vec![], urls).await.0,
        StatusCode::NOT_FOUND
    );
    assert!(two.transport.link(1).is_some(), "now it can be answered");
    assert_eq!(
        get("/raft/stream/gossip/1").await,
        (404, "invalid path\n".to_owned())
    );
    assert_eq!(
        get("/raft/stream/msgapp/xyz").await,
        (404, "invalid from\n".to_owned())
    );
    two.transport
        .add_peer(1, &["http://127.0.0.1:1".to_owned()]);
    let (status, _, body) = ask(&two, Method::GET, STREAM, vec![], set(RAFT_TO, "3")).await;
    assert_eq!((status.as_u16(), &*body), (412, "to field mismatch\n"));
    two.transport.set_removed([1]);
    assert_eq!(get(STREAM).await, (410, "removed member\n".to_owned()));
}

#[tokio::test]
async fn a_stream_lives_by_heartbeats() {
    let two = Host::start(2).await;
    two.transport
        .add_peer(1, &["http://127.0.0.1:1".to_owned()]);
    let (status, _, body) = ask(
        &two,
        Method::GET,
        "/raft/stream/msgapp/1",
        vec![],
        unchanged,
    )
    .await;
    assert_eq!((status, &*body), (StatusCode::OK, "\0"));
}

#[tokio::test]
async fn s21_messages_of_or_to_others_are_refused() {
    let mut two = Host::start(2).await;
    let post = async |message: Message| {
        let (status, headers, body) = ask(
            &two,
            Method::POST,
            "/raft",
            message.encode_to_vec(),
            unchanged,
        )
        .await;
        assert_eq!(headers[CLUSTER_ID], "cafe");
        (status.as_u16(), body)
    };
    assert_eq!(post(heartbeat(1, 2, 4)).await.0, 204);
    let mismatch = "{\"message\":\"cannot process message to mismatch member\"}";
    assert_eq!(post(heartbeat(1, 3, 4)).await, (403, mismatch.to_owned()));
    two.transport.set_removed([1]);
    let removed = "{\"message\":\"cannot process message from removed member\"}";
    assert_eq!(post(heartbeat(1, 2, 4)).await, (403, removed.to_owned()));
    two.transport.set_removed([]);
    // A snapshot needs its image, and what steers Raft from within does not come from without.
    assert_eq!(post(snapshot(1, 2, 4)).await.0, 400);
    for local in [
        MessageType::MsgHup,
        MessageType::MsgUnreachable,
        MessageType::MsgStorageAppendResp,
    ] {
        assert_eq!(
            post(Message {
                r#type: local as i32,
                ..heartbeat(1, 2, 4)
            })
            .await
            .0,
            400
        );
    }
    assert_eq!(
        post(Message {
            r#type: 99,
            ..heartbeat(1, 2, 4)
        })
        .await
        .0,
        400
    );
    let (status, _, body) = ask(&two, Method::POST, "/raft", vec![0xff; 3], unchanged).await;
    assert_eq!(
        (status.as_u16(), &*body),
        (400, "error unmarshalling raft message\n")
    );
    assert_eq!(two.message().await, heartbeat(1, 2, 4));
    assert!(two.events.try_recv().is_err(), "nothing else got through");
}

#[tokio::test]
async fn s12_a_snapshot_request_must_be_one() {
    let two = Host::start(2).await;
    let sized = |message: Message| {
        let bytes = message.encode_to_vec();
        [&(bytes.len() as u64).to_be_bytes(), &bytes[..], b"image"].concat()
    };
    for (body, expected) in [
        (vec![1, 2, 3], 400),
        (u64::MAX.to_be_bytes().to_vec(), 400),
        ((100u64 << 20).to_be_bytes().to_vec(), 400),
        ([&3u64.to_be_bytes()[..], &[0xff; 3]].concat(), 400),
        (sized(heartbeat(1, 2, 4)), 400),
        (sized(snapshot(1, 3, 4)), 403),
        (sized(snapshot(1, 2, 4)), 204),
    ] {
        let (status, ..) = ask(&two, Method::POST, "/raft/snapshot", body, unchanged).await;
        assert_eq!(status.as_u16(), expected);
    }
    assert_eq!(two.files(), 1);
}

#[tokio::test]
async fn methods_and_probing() {
    let two = Host::start(2).await;
    for (method, path, allow) in [
        (Method::GET, "/raft", "POST"),
        (Method::GET, "/raft/snapshot", "POST"),
        (Method::POST, STREAM, "GET"),
    ] {
        let (status, headers, _) = ask(&two, method, path, vec![], unchanged).await;
        assert_eq!(
            (status.as_u16(), headers["allow"].to_str().unwrap()),
            (405, allow)
        );
    }
    let (status, _, body) = ask(&two, Method::GET, "/raft/probing", vec![], HeaderMap::clear).await;
    assert_eq!(status, StatusCode::OK);
    let answer: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(answer["OK"], true);
    assert!(
        answer["Now"]
            .as_str()
            .unwrap()
            .parse::<jiff::Timestamp>()
            .is_ok()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_member_learns_of_it_by_the_pipeline_too() {
    let (mut one, two) = (Host::start(1).await, Host::start(2).await);
    two.transport.set_removed([1]);
    two.transport.add_remote(1, &one.urls());
    assert!(
        two.transport.link(1).is_none(),
        "a removed one is not answered"
    );
    // Not as a peer, which would open streams and learn it from them.
    one.transport.add_remote(2, &two.urls());
    one.transport.send(vec![heartbeat(1, 2, 1)]);
    assert!(matches!(one.event().await, PeerEvent::RemovedByPeers));
}
