use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_arrive_in_order_both_ways() {
    let (mut one, mut two) = pair().await;
    const COUNT: u64 = 3000;
    for index in 10..10 + COUNT {
        one.transport
            .send(vec![append(1, 2, index, 300), heartbeat(1, 2, index)]);
        two.transport.send(vec![heartbeat(2, 1, index)]);
    }
    let (mut appends, mut heartbeats) = (10, 10);
    while (appends, heartbeats) != (10 + COUNT, 10 + COUNT) {
        let message = two.message().await;
        if message.entries.is_empty() {
            assert_eq!(message, heartbeat(1, 2, heartbeats));
            heartbeats += 1;
        } else {
            assert_eq!(message, append(1, 2, appends, 300));
            appends += 1;
        }
    }
    for index in 10..10 + COUNT {
        assert_eq!(one.message().await, heartbeat(2, 1, index));
    }
    let status = one.transport.peer_status(2).unwrap();
    assert!(status.active_since.is_some());
    assert_eq!(status.sent_failures, 0);
    let received = two.transport.peer_status(1).unwrap().received_bytes;
    assert!(status.sent_bytes >= received && received > COUNT * 300);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s18_a_broken_connection_is_opened_again() {
    let (one, mut two) = pair().await;
    for round in 0..5 {
        one.cut();
        two.cut();
        // Until the streams are back, messages are lost or take the pipeline.
        let message = heartbeat(1, 2, 1000 + round);
        let arrived = async {
            loop {
                one.transport.send(vec![message.clone()]);
                if let Ok(Some(PeerEvent::Message(arrived))) =
                    timeout(Duration::from_millis(50), two.events.recv()).await
                    && arrived == message
                {
                    return;
                }
            }
        };
        timeout(PATIENCE, arrived).await.unwrap();
        one.connected_to(2).await;
        two.connected_to(1).await;
        let active = |host: &Host, id| {
            host.transport
                .peer_status(id)
                .unwrap()
                .active_since
                .is_some()
        };
        until(|| active(&one, 2) && active(&two, 1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_stream_messages_take_the_pipeline() {
    let (one, mut two) = (Host::start(1).await, Host::start(2).await);
    // Two knows one only from its requests, so it opens no streams to it.
    one.transport.add_peer(2, &two.urls());
    one.transport.send(vec![heartbeat(1, 2, 1)]);
    assert_eq!(two.message().await, heartbeat(1, 2, 1));
    until(|| two.transport.link(1).is_some()).await;
    assert!(two.transport.peer(1).is_none(), "a remote, not a peer");
    // The answer finds its way back, although two is not asked for a stream either.
    let mut one = one;
    two.transport.send(vec![heartbeat(2, 1, 2)]);
    assert_eq!(one.message().await, heartbeat(2, 1, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s23_a_wrong_url_is_left_for_the_next_one() {
    let (mut one, two) = (Host::start(1).await, Host::start(2).await);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut urls = vec![format!("http://{nobody}"), "not a url".to_owned()];
    urls.extend(two.urls());
    one.transport.add_peer(2, &urls);
    two.transport.add_peer(1, &one.urls());
    two.connected_to(1).await;
    one.connected_to(2).await;
    two.transport.send(vec![heartbeat(2, 1, 7)]);
    assert_eq!(one.message().await, heartbeat(2, 1, 7));

    one.transport.remove_peer(2);
    one.transport.add_peer(2, &[format!("http://{nobody}")]);
    until(|| one.transport.peer_status(2).unwrap().active_since.is_none()).await;
    one.transport.update_peer(2, &two.urls());
    one.connected_to(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_absent_peer_is_reported_unreachable() {
    let mut one = Host::start(1).await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    one.transport.add_peer(2, &[format!("http://{nobody}")]);
    one.transport.send(vec![heartbeat(1, 2, 1)]);
    assert!(matches!(one.event().await, PeerEvent::Unreachable(2)));
    assert!(one.transport.peer_status(2).unwrap().active_since.is_none());
    // Nobody, itself, and one that was never heard of.
    one.transport.send(vec![
        heartbeat(1, 0, 1),
        heartbeat(1, 1, 1),
        heartbeat(1, 9, 1),
    ]);
    one.transport
        .send_snapshot(snapshot(1, 9, 5), Box::new(Image::of(10)));
    loop {
        match one.event().await {
            PeerEvent::Unreachable(2) => {}
            PeerEvent::SnapshotSent { to: 9, ok: false } => break,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b035_a_proposal_that_did_not_leave_comes_back_and_one_that_may_have_does_not() {
    let (mut one, two) = (Host::start(1).await, Host::start(2).await);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    one.transport.add_peer(2, &[format!("http://{nobody}")]);
    let proposal = |to| Message {
        r#type: MessageType::MsgProp as i32,
        ..append(1, to, 0, 100)
    };
    one.transport.send(vec![heartbeat(1, 2, 1), proposal(2)]);
    loop {
        match one.event().await {
            PeerEvent::Unreachable(2) => {}
            PeerEvent::Unsent(message) => {
                assert_eq!(message, proposal(2));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    // It is refused, and so has arrived: what became of it is not known here.
    one.transport.add_peer(3, &two.urls());
    one.transport.send(vec![proposal(3)]);
    until(|| one.transport.peer_status(3).unwrap().sent_failures > 0).await;
    one.transport.remove_peer(3);
    let mut events = Vec::new();
    while let Ok(event) = one.events.try_recv() {
        events.push(event);
    }
    assert!(
        !events.iter().any(|e| matches!(e, PeerEvent::Unsent(_))),
        "{events:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s31_a_receiver_without_room_gets_everything_later() {
    let one = Host::start(1).await;
    let mut two = Host::start_in(2, CLUSTER, 4).await;
    one.transport.add_peer(2, &two.urls());
    two.transport.add_peer(1, &one.urls());
    one.connected_to(2).await;
    for index in 1..=2000 {
        one.transport.send(vec![append(1, 2, index, 10_000)]);
    }
    for index in 1..=2000 {
        assert_eq!(two.message().await.index, index);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn set_members_connects_to_those_and_no_others() {
    let (one, two, three) = (
        Host::start(1).await,
        Host::start(2).await,
        Host::start(3).await,
    );
    let (urls_one, urls_two, urls_three) = (one.urls(), two.urls(), three.urls());
    let all = BTreeMap::from([(1, &urls_one[..]), (2, &urls_two[..]), (3, &urls_three[..])]);
    for host in [&one, &two, &three] {
        host.transport.set_members(all.clone(), []);
        assert!(host.transport.peer(host.id).is_none());
    }
    one.connected_to(2).await;
    one.connected_to(3).await;
    one.transport.set_members([(2, &urls_two[..])], [3]);
    assert!(one.transport.link(3).is_none());
    assert!(one.transport.link(2).is_some());
    let mut three = three;
    assert!(matches!(three.event().await, PeerEvent::RemovedByPeers));
    one.transport.stop();
    assert!(one.transport.peer_statuses().is_empty());
    one.transport.add_peer(2, &urls_two);
    assert!(one.transport.peer_statuses().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_of_some_mib_arrives_whole() {
    let (mut one, mut two) = pair().await;
    const LEN: usize = 20_000_003;
    one.transport
        .send_snapshot(snapshot(1, 2, 77), Box::new(Image::of(LEN)));
    match two.event().await {
        PeerEvent::SnapshotReceived { message, image } => {
            assert_eq!(message, snapshot(1, 2, 77));
            assert!(std::fs::read(&image).unwrap() == Image::bytes(LEN));
            assert_eq!(image.parent(), Some(two.directory.path()));
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        one.event().await,
        PeerEvent::SnapshotSent { to: 2, ok: true }
    ));
    // Streams were not in its way.
    one.transport.send(vec![heartbeat(1, 2, 5)]);
    assert_eq!(two.message().await, heartbeat(1, 2, 5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s12_an_image_that_is_cut_short_leaves_nothing() {
    let (mut one, mut two) = pair().await;
    let good = Image::of(3_000_000);
    for image in [
        Image {
            written: 2_000_000,
            ..Image::of(3_000_000)
        },
        Image {
            written: 4_000_000,
            ..Image::of(3_000_000)
        },
        Image {
            written: 1_000_000,
            fails: true,
            ..Image::of(3_000_000)
        },
    ] {
        one.transport
            .send_snapshot(snapshot(1, 2, 77), Box::new(image));
        loop {
            match one.event().await {
                PeerEvent::SnapshotSent { to: 2, ok } => {
                    assert!(!ok);
                    break;
                }
                PeerEvent::Unreachable(2) => {}
                other => panic!("{other:?}"),
            }
        }
        until(|| two.files() == 0).await;
    }
    one.transport
        .send_snapshot(snapshot(1, 2, 78), Box::new(good));
    assert!(matches!(
        two.event().await,
        PeerEvent::SnapshotReceived { .. }
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s06_a_connection_cut_in_a_snapshot_is_a_failure() {
    let (mut one, two) = pair().await;
    one.transport
        .send_snapshot(snapshot(1, 2, 77), Box::new(Image::of(200_000_000)));
    until(|| two.files() == 1).await;
    two.cut();
    loop {
        match one.event().await {
            PeerEvent::SnapshotSent { to: 2, ok } => {
                assert!(!ok);
                break;
            }
            PeerEvent::Unreachable(2) => {}
            other => panic!("{other:?}"),
        }
    }
    until(|| two.files() == 0).await;
}

/// Connections of which one byte arrives as another: that at this place of each, as long
/// as it is not 0.
#[derive(Clone, Default)]
struct NoisyDialer {
    flip_at: Arc<AtomicUsize>,
}

struct Noisy {
    inner: Box<dyn Connection>,
    flip_at: Arc<AtomicUsize>,
    written: usize,
}

impl Dialer for NoisyDialer {
    fn dial(&self, url: &http::Uri) -> BoxFuture<'static, io::Result<Box<dyn Connection>>> {
        let (dial, flip_at) = (TcpDialer.dial(url), self.flip_at.clone());
        Box::pin(async move {
            let noisy = Noisy {
                inner: dial.await?,
                flip_at,
                written: 0,
            };
            Ok(Box::new(noisy) as Box<dyn Connection>)
        })
    }
}

impl AsyncRead for Noisy {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Noisy {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut bytes = bytes.to_vec();
        let flip_at = Some(self.flip_at.load(Ordering::Relaxed)).filter(|at| *at != 0);
        let place = flip_at.and_then(|at| at.checked_sub(self.written));
        if let Some(byte) = place.and_then(|place| bytes.get_mut(place)) {
            *byte ^= 1;
        }
        let written = std::task::ready!(Pin::new(&mut self.inner).poll_write(cx, &bytes))?;
        self.written += written;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Waits until a snapshot was sent; whether it arrived.
async fn sent(host: &mut Host) -> bool {
    loop {
        match host.event().await {
            PeerEvent::SnapshotSent { to: 2, ok } => return ok,
            PeerEvent::Unreachable(2) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s12_an_image_that_changed_on_its_way_is_refused_and_sent_again() {
    const LEN: usize = 3_000_000;
    let dialer = NoisyDialer::default();
    let noisy = Arc::new(dialer.clone());
    let mut one = Host::start_with(1, CLUSTER, 4096, noisy, |_| Ok(())).await;
    let mut two = Host::start(2).await;
    one.transport.add_peer(2, &two.urls());
    two.transport.add_peer(1, &one.urls());
    one.connected_to(2).await;
    two.connected_to(1).await;
    // Somewhere in the image, which head and chunks leave most of the request to.
    for flip_at in [40_000, 1_500_000, LEN - 1] {
        dialer.flip_at.store(flip_at, Ordering::Relaxed);
        let image = Box::new(Image::of(LEN));
        one.transport.send_snapshot(snapshot(1, 2, 77), image);
        assert!(!sent(&mut one).await, "{flip_at}");
        until(|| two.files() == 0).await;
    }
    dialer.flip_at.store(0, Ordering::Relaxed);
    let image = Box::new(Image::of(LEN));
    one.transport.send_snapshot(snapshot(1, 2, 78), image);
    assert!(sent(&mut one).await);
    let PeerEvent::SnapshotReceived { image, .. } = two.event().await else {
        panic!("no snapshot");
    };
    assert!(std::fs::read(image).unwrap() == Image::bytes(LEN));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s12_an_image_that_cannot_be_taken_over_never_reaches_raft() {
    let mut one = Host::start(1).await;
    let dialer = Arc::new(TcpDialer);
    let verify = |_: &Path| Err("page 7 is in use more than once".to_owned());
    let two = Host::start_with(2, CLUSTER, 4096, dialer, verify).await;
    one.transport.add_peer(2, &two.urls());
    two.transport.add_peer(1, &one.urls());
    one.connected_to(2).await;
    let image = Box::new(Image::of(100_000));
    one.transport.send_snapshot(snapshot(1, 2, 77), image);
    assert!(!sent(&mut one).await);
    until(|| two.files() == 0).await;
    assert!(two.events.is_empty());
}
