//! Listeners under those who mean no good, or are just too many.

use std::time::{Duration, Instant};

use etcd_e2e::ports::Port;
use etcd_e2e::{Authority, Client, Leaf, Options, Process, Target, eventually, http};
use etcd_proto::etcdserverpb::RangeRequest;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, GOAWAY, HEADERS, PING,
    RST_STREAM, Raw, SETTINGS, code, frame, head,
};
use crate::tls_world::{etcdctl, served};

const WITHIN: Duration = Duration::from_secs(30);
/// An answer that takes longer is none. Generous: other builds may share the machine.
const PROMPT: Duration = Duration::from_secs(30);
const RANGE: &str = "/etcdserverpb.KV/Range";
const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// A member with a metrics listener of its own, at the URL.
async fn member(options: Options) -> (Process, String, Port) {
    let port = Port::reserve().unwrap();
    let url = port.url();
    let options = options.args([format!("--listen-metrics-urls={url}")]);
    (Process::start(options).await.unwrap(), url, port)
}

fn host(url: &str) -> String {
    url.split("//").nth(1).unwrap().to_owned()
}

/// It answers a probe, at once.
async fn healthy(url: &str) {
    let answer = tokio::time::timeout(PROMPT, http::get(&format!("{url}/health"))).await;
    let (status, body) = answer.expect("an answer in time").unwrap();
    assert_eq!((status, body.contains("true")), (200, true), "{body}");
}

/// Writes go on.
async fn alive(member: &Process) {
    let put = tokio::time::timeout(PROMPT, member.client().put("alive", "1")).await;
    put.expect("an answer in time").unwrap();
}

/// How long it takes until a connection is closed on which `again` is sent over and over after `first`.
async fn cut_off(address: &str, first: &[u8], again: &[u8]) -> Duration {
    let began = Instant::now();
    let (mut read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
    write.write_all(first).await.unwrap();
    let dribble = async {
        while write.write_all(again).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let mut rest = Vec::new();
    tokio::select! {
        () = dribble => {}
        // Closed in either way.
        _end = read.read_to_end(&mut rest) => {}
        () = tokio::time::sleep(Duration::from_secs(60)) => panic!("nobody cuts it off"),
    }
    began.elapsed()
}

#[tokio::test]
async fn s32_slowloris_is_cut_off() {
    let ours = Authority::new("ours").unwrap();
    let server = ours.issue(&Leaf::new("server")).unwrap();
    let secure = Process::start_https(Options::single(), server.flags("--"))
        .await
        .unwrap();
    let (plain, _, _port) = member(Options::single()).await;
    let (tls, bare) = (host(&secure.client_url()), host(&plain.client_url()));
    let (handshake, preface, silence) = tokio::join!(
        // A record of 512 bytes, of which one comes every half second.
        cut_off(&tls, &[22, 3, 1, 2, 0, 1, 0], &[0]),
        cut_off(&bare, b"PRI * HTT", b""),
        cut_off(&bare, b"", b""),
    );
    assert!(handshake < Duration::from_secs(15), "{handshake:?}");
    for took in [preface, silence] {
        let expected = Duration::from_secs(29)..Duration::from_secs(45);
        assert!(expected.contains(&took), "{took:?}");
    }
    secure.logged("handshake timed out", WITHIN).await;
    served(&etcdctl(&secure, &ours)).await;
}

/// How many descriptors this program, and so the member it starts, may have.
fn descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
    usize::try_from(limit).unwrap()
}

#[tokio::test]
async fn s32_thousands_of_idle_connections_and_streams() {
    let (member, metrics, _port) = member(Options::single()).await;
    let address = host(&member.client_url());
    // Half of what this program may have: other tests run beside this one.
    let many = (descriptors() / 2).min(5000);
    let mut idle = Vec::new();
    for number in 0..many {
        // Half of them speak HTTP/2 and half say nothing.
        idle.push(match number % 2 {
            0 => Raw::connect(&member.client_url()).await.0,
            _ => TcpStream::connect(&address).await.unwrap(),
        });
    }
    // Streams that wait for a request that never comes.
    let mut raw = Raw::connect(&member.client_url()).await;
    for number in 0..u32::try_from(many).unwrap() {
        let call = frame(HEADERS, END_HEADERS, 2 * number + 1, &head(WATCH, &[]));
        assert!(raw.send(&call).await, "closed at stream {number}");
    }
    let ping = frame(PING, 0, 0, &[7; 8]);
    assert!(raw.send(&ping).await);
    while raw.next().await.expect("the connection").payload != [7; 8] {}
    healthy(&member.client_url()).await;
    healthy(&metrics).await;
    alive(&member).await;
    let used = member.usage().unwrap().rss_anon;
    println!(
        "{many} idle connections, {many} streams: {} MiB",
        used >> 20
    );
    assert!(
        used / (many as u64) < 128 << 10,
        "{used} bytes for {many} connections and streams"
    );
}

/// Clients take all connections they may; probes and members have their own.
#[tokio::test]
async fn s42_s32_clients_cannot_keep_probes_out() {
    let scratch = etcd_e2e::scratch::Scratch::new().unwrap();
    let program = scratch.path().join("etcd-with-few-files");
    let etcd = Target::from_env().etcd().unwrap();
    let script = format!("#!/bin/sh\nulimit -n 300\nexec {} \"$@\"\n", etcd.display());
    std::fs::write(&program, script).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, mode).unwrap();
    let options = Options {
        program: Some(program),
        ..Options::single()
    };
    let (member, metrics, _port) = member(options).await;
    let address = host(&member.client_url());
    let mut flood = Vec::new();
    for _ in 0..400 {
        flood.push(TcpStream::connect(&address).await.unwrap());
    }
    for _ in 0..20 {
        healthy(&metrics).await;
    }
    let used = std::fs::read_dir(format!("/proc/{}/fd", member.pid().unwrap()))
        .unwrap()
        .count();
    assert!(used < 300, "{used} descriptors");
    drop(flood);
    eventually(
        WITHIN,
        "clients are served again",
        async || match tokio::time::timeout(PROMPT, member.client().put("a", "1")).await {
            Ok(Ok(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )
    .await;
}

/// No descriptor is left at all: accepting fails, and goes on once there are some.
#[tokio::test]
async fn s42_accepting_survives_descriptor_exhaustion() {
    let (member, metrics, _port) = member(Options::single()).await;
    alive(&member).await;
    let pid = Pid::from_raw(i32::try_from(member.pid().unwrap()).unwrap());
    let limit = |current: u64| {
        let maximum = getrlimit(Resource::Nofile).maximum;
        prlimit(
            pid,
            Resource::Nofile,
            Rlimit {
                current: Some(current),
                maximum,
            },
        )
        .unwrap()
    };
    let before = limit(3);
    let address = host(&member.client_url());
    let waiting = TcpStream::connect(&address).await.unwrap();
    member
        .logged("failed to accept a connection; retrying", WITHIN)
        .await;
    limit(before.current.unwrap());
    alive(&member).await;
    healthy(&metrics).await;
    healthy(&member.client_url()).await;
    drop(waiting);
    let repeated = member.log().matches("failed to accept").count();
    assert!(repeated < 1000, "{repeated} lines");
}

/// Sends `attack` (of the number of its round) until the server has had enough, or `rounds` are over; the
/// server lives, serves others meanwhile, and its memory does not grow. The code it ends the connection with.
async fn flood(
    member: &Process,
    metrics: &str,
    rounds: u32,
    attack: impl Fn(u32) -> Vec<u8>,
) -> Option<u32> {
    let before = member.usage().unwrap();
    let raw = Raw::connect(&member.client_url()).await;
    let (mut read, mut write) = raw.0.into_split();
    let sending = async {
        for round in 0..rounds {
            if write.write_all(&attack(round)).await.is_err() {
                break;
            }
        }
        // Whoever reads to the end needs one.
        let _closed = write.shutdown().await;
    };
    let reading = async {
        let mut farewell = None;
        let mut head = [0; 9];
        while read.read_exact(&mut head).await.is_ok() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; length];
            if read.read_exact(&mut payload).await.is_err() {
                break;
            }
            if head[3] == GOAWAY {
                farewell = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
            }
        }
        farewell
    };
    let others = async {
        for _ in 0..5 {
            healthy(metrics).await;
            alive(member).await;
        }
    };
    let whole = async { tokio::join!(sending, reading, others).1 };
    let farewell = tokio::time::timeout(Duration::from_secs(60), whole)
        .await
        .expect("the flood ends");
    healthy(metrics).await;
    alive(member).await;
    let after = member.usage().unwrap();
    let grown = after.rss_anon.saturating_sub(before.rss_anon);
    println!(
        "{rounds} rounds: farewell {farewell:?}, {} KiB more, {:?} of CPU",
        grown >> 10,
        after.cpu - before.cpu
    );
    assert!(grown < 64 << 20, "{grown} bytes more");
    farewell
}

#[tokio::test]
async fn s38_rapid_resets() {
    let (member, metrics, _port) = member(Options::single()).await;
    let call = head(RANGE, &[]);
    flood(&member, &metrics, 50_000, |round| {
        let stream = 2 * round + 1;
        let mut bytes = frame(HEADERS, END_HEADERS, stream, &call);
        bytes.extend(frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()));
        bytes
    })
    .await;
}

#[tokio::test]
async fn s38_pings_settings_and_empty_frames() {
    let (member, metrics, _port) = member(Options::single()).await;
    let pings = flood(&member, &metrics, 50_000, |_| frame(PING, 0, 0, &[1; 8])).await;
    // A farewell may be lost behind what the server no longer reads.
    assert!(matches!(pings, None | Some(ENHANCE_YOUR_CALM)), "{pings:?}");
    if Target::from_env() == Target::Ours {
        let told = "closing a connection of a client that pings too often";
        member.logged(told, WITHIN).await;
    }
    flood(&member, &metrics, 50_000, |_| {
        frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0])
    })
    .await;
    let call = head(WATCH, &[]);
    flood(&member, &metrics, 50_000, |round| match round {
        0 => frame(HEADERS, END_HEADERS, 1, &call),
        _ => frame(DATA, 0, 1, &[]),
    })
    .await;
}

#[tokio::test]
async fn s39_heads_without_end_are_refused() {
    let (member, metrics, _port) = member(Options::single()).await;
    let call = head(RANGE, &[]);
    let filler = head("/", &[("a", &"b".repeat(8000))]);
    let farewell = flood(&member, &metrics, 20_000, |round| match round {
        0 => frame(HEADERS, 0, 1, &call),
        _ => frame(CONTINUATION, 0, 1, &filler[2..]),
    })
    .await;
    println!("endless head: {farewell:?}");
    // A head of moderate size that is too long all the same: the call fails, the connection lives.
    let mut raw = Raw::connect(&member.client_url()).await;
    let settings = raw.next_of(SETTINGS).await.unwrap();
    let setting = |wanted: u16| {
        let mut found = settings.payload.chunks(6).filter_map(|entry| {
            let value = u32::from_be_bytes(entry[2..6].try_into().unwrap());
            (entry[..2] == wanted.to_be_bytes()).then_some(value)
        });
        found.next()
    };
    assert_eq!(
        setting(6),
        Some(64 << 10),
        "MAX_HEADER_LIST_SIZE is announced"
    );
    let client = member.client();
    let mut request = tonic::Request::new(RangeRequest {
        key: "a".into(),
        ..RangeRequest::default()
    });
    let long = "x".repeat(100 << 10).parse().unwrap();
    request.metadata_mut().insert("authorization", long);
    client.kv().range(request).await.unwrap_err();
    client.get("a").await.unwrap();
}

#[tokio::test]
async fn s38_concurrent_streams_are_limited() {
    let options = Options::single().args(["--max-concurrent-streams=2"]);
    let (member, _, _port) = member(options).await;
    let mut raw = Raw::connect(&member.client_url()).await;
    let settings = raw.next_of(SETTINGS).await.unwrap();
    let announced = settings
        .payload
        .chunks(6)
        .find(|entry| entry[..2] == [0, 3])
        .map(|entry| entry[2..].to_vec());
    assert_eq!(announced, Some(vec![0, 0, 0, 2]));
    for stream in [1, 3, 5] {
        assert!(
            raw.send(&frame(HEADERS, END_HEADERS, stream, &head(WATCH, &[])))
                .await
        );
    }
    // REFUSED_STREAM.
    let refused = raw.next_of(RST_STREAM).await.unwrap();
    assert_eq!(refused.payload, 7u32.to_be_bytes());
    alive(&member).await;
}

#[tokio::test]
async fn keepalive_min_time_ends_who_pings_more_often() {
    let options = Options::single().args(["--grpc-keepalive-min-time=1h"]);
    let (member, _, _port) = member(options).await;
    let mut raw = Raw::connect(&member.client_url()).await;
    assert!(
        raw.send(&frame(HEADERS, END_HEADERS, 1, &head(WATCH, &[])))
            .await
    );
    for _ in 0..5 {
        // Once the connection is closed there is nobody to send to.
        let _open = raw.send(&frame(PING, 0, 0, &[1; 8])).await;
    }
    let farewell = raw.next_of(GOAWAY).await.expect("a farewell");
    assert_eq!(code(&farewell), ENHANCE_YOUR_CALM);
    assert_eq!(&farewell.payload[8..], b"too_many_pings");

    // With a shorter pause the same pings are well, for there is a call.
    let options = Options::single().args(["--grpc-keepalive-min-time=1ns"]);
    let (member, _, _port) = self::member(options).await;
    let mut raw = Raw::connect(&member.client_url()).await;
    assert!(
        raw.send(&frame(HEADERS, END_HEADERS, 1, &head(WATCH, &[])))
            .await
    );
    for _ in 0..50 {
        assert!(raw.send(&frame(PING, 0, 0, &[1; 8])).await);
        let answer = raw.next().await;
        assert_ne!(answer.expect("the connection lives").kind, GOAWAY);
    }
}

#[tokio::test]
async fn keepalive_interval_and_timeout_end_who_does_not_answer() {
    let options = Options::single().args([
        "--grpc-keepalive-interval=1s",
        "--grpc-keepalive-timeout=1s",
    ]);
    let (member, _, _port) = member(options).await;
    let mut raw = Raw::connect(&member.client_url()).await;
    assert!(
        raw.send(&frame(HEADERS, END_HEADERS, 1, &head(WATCH, &[])))
            .await
    );
    let began = Instant::now();
    raw.next_of(PING).await.expect("a ping");
    while raw.next().await.is_some() {}
    let took = began.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");
    // Who answers stays.
    let mut raw = Raw::connect(&member.client_url()).await;
    assert!(
        raw.send(&frame(HEADERS, END_HEADERS, 1, &head(WATCH, &[])))
            .await
    );
    for _ in 0..4 {
        let ping = raw.next_of(PING).await.expect("a ping");
        assert!(raw.send(&frame(PING, 1, 0, &ping.payload)).await);
    }
}

#[tokio::test]
async fn grpc_health_is_checked_and_watched() {
    let (member, _, _port) = member(Options::single()).await;
    let channel = tonic::transport::Endpoint::from_shared(member.client_url())
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut health = HealthClient::new(channel);
    let ask = |service: &str| HealthCheckRequest {
        service: service.to_owned(),
    };
    let answer = health.check(ask("")).await.unwrap().into_inner();
    assert_eq!(answer.status(), ServingStatus::Serving);
    let unknown = health.check(ask("no.such.Service")).await.unwrap_err();
    assert_eq!(unknown.code(), tonic::Code::NotFound);
    let mut watch = health.watch(ask("")).await.unwrap().into_inner();
    let first = watch.message().await.unwrap().expect("a status at once");
    assert_eq!(first.status(), ServingStatus::Serving);
}

/// Answers that nobody takes are kept whole, as etcd keeps them, and once: others are served meanwhile.
#[tokio::test]
async fn s32_a_client_that_does_not_read_holds_up_nobody() {
    let (member, metrics, _port) = member(Options::single()).await;
    let client: Client = member.client();
    let value = vec![7; 1 << 20];
    for number in 0..16 {
        client.put(format!("big/{number}"), &value).await.unwrap();
    }
    let mut request = vec![0x0a, 4];
    request.extend(b"big/");
    request.extend([0x12, 4]);
    request.extend(b"big0");
    let mut message = vec![0, 0, 0, 0, u8::try_from(request.len()).unwrap()];
    message.extend(&request);
    let before = member.usage().unwrap().rss_anon;
    let mut deaf = Vec::new();
    for _ in 0..20 {
        let mut raw = Raw::connect(&member.client_url()).await;
        for stream in [1, 3] {
            assert!(
                raw.send(&frame(HEADERS, END_HEADERS, stream, &head(RANGE, &[])))
                    .await
            );
            assert!(raw.send(&frame(DATA, END_STREAM, stream, &message)).await);
        }
        deaf.push(raw);
    }
    healthy(&metrics).await;
    alive(&member).await;
    let grown = member.usage().unwrap().rss_anon.saturating_sub(before);
    println!("20 deaf clients of 32 MiB each: {} MiB more", grown >> 20);
    assert!(grown < 960 << 20, "{grown} bytes more");
}
