//! Reads one stream from another member, and opens it again whenever it breaks.

use std::sync::Arc;

use http::{Method, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use tokio::time::{Instant, sleep_until, timeout};

use super::codec::{Decoder, Item, StreamKind};
use super::error::{RequestError, StreamError};
use super::event::PeerEvent;
use super::headers::{Identity, RAFT_TO, id_value};
use super::link::Link;
use super::request::{Client, PostBody, read_answer, refusal, request};
use super::{REDIAL, STREAM_TIMEOUT};

/// Refused connections after the end of a stream that are told as the end of the peer's
/// process. More than one, as others may notice later; few, as a peer that only this
/// member cannot reach is no news.
const GONE_TOLD: usize = 3;

/// Reads the stream for as long as the task is let run.
pub(super) async fn run(link: Arc<Link>, kind: StreamKind) {
    let mut untold = 0;
    loop {
        let dialed = Instant::now();
        let mut client = Client::default();
        let limit = link.shared.config.dial_timeout + STREAM_TIMEOUT;
        let opened = timeout(limit, open(&link, kind, &mut client)).await;
        match opened.unwrap_or(Err(RequestError::TimedOut)) {
            Ok(body) => {
                link.status.activate();
                tracing::info!(
                    stream_reader_type = kind.name(),
                    remote_peer_id = %format_args!("{:x}", link.id),
                    "established TCP streaming connection with remote peer"
                );
                let Err(error) = read(&link, kind, body).await;
                untold = GONE_TOLD;
                tracing::warn!(
                    stream_reader_type = kind.name(),
                    remote_peer_id = %format_args!("{:x}", link.id),
                    %error,
                    "lost TCP streaming connection with remote peer"
                );
                // One that its peer closes is opened again; only if that fails it is down.
                if !matches!(error, StreamError::Closed) {
                    link.status
                        .deactivate(kind.name(), "read", &error.to_string());
                }
            }
            Err(error) => {
                if untold > 0 && error.is_refused() && link.urls.is_single() {
                    untold -= 1;
                    tracing::warn!(
                        remote_peer_id = %format_args!("{:x}", link.id),
                        "the peer's process has ended, its host refuses connections"
                    );
                    link.shared.notify(PeerEvent::Gone(link.id));
                }
                client.failed(&link, kind.name(), "dial", &error);
            }
        }
        sleep_until(dialed + REDIAL).await;
    }
}

async fn open(
    link: &Link,
    kind: StreamKind,
    client: &mut Client,
) -> Result<Incoming, RequestError> {
    let local = link.shared.config.local_id;
    let path = format!("/raft/stream/{}/{local:x}", kind.name());
    let get = |url: &Uri| {
        let empty = PostBody::new(Empty::new());
        let mut get = request(&link.shared, url, Method::GET, &path, empty);
        get.headers_mut().insert(RAFT_TO, id_value(link.id));
        get
    };
    let answer = client.send(link, get).await?;
    match answer.status() {
        _ if !Identity::serves_streams(answer.headers()) => Err(RequestError::IncompatibleVersion),
        StatusCode::OK => Ok(answer.into_body()),
        status => Err(refusal(status, &read_answer(answer).await?)),
    }
}

/// Passes on what comes until the stream breaks.
async fn read(
    link: &Link,
    kind: StreamKind,
    mut body: Incoming,
) -> Result<std::convert::Infallible, StreamError> {
    let mut decoder = Decoder::new(kind, link.shared.config.local_id, link.id);
    loop {
        let frame = timeout(STREAM_TIMEOUT, body.frame())
            .await
            .map_err(|_| StreamError::Silent)?;
        let Some(frame) = frame.transpose()? else {
            return Err(StreamError::Closed);
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        link.status.received(data.len());
        decoder.feed(&data);
        while let Some(item) = decoder.next()? {
            let Item::Message(message) = item else {
                continue;
            };
            match link.shared.check(&message, false) {
                Ok(()) => link.shared.deliver(PeerEvent::Message(message)).await,
                Err(refusal) => tracing::warn!(
                    from = %format_args!("{:x}", message.from),
                    to = %format_args!("{:x}", message.to),
                    message_type = message.r#type,
                    error = %refusal,
                    "ignored a Raft message"
                ),
            }
        }
    }
}
