//! Asks another member every few seconds how long an answer takes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use http_body_util::Empty;
use tokio::time::{MissedTickBehavior, interval};

use super::link::Link;
use super::request::{Client, PostBody, request};

const PERIOD: Duration = Duration::from_secs(4);

/// Probes for as long as the task is let run.
pub(super) async fn run(link: Arc<Link>) {
    let mut client = Client::default();
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let started = Instant::now();
        let get = |url: &_| {
            request(
                &link.shared,
                url,
                Method::GET,
                "/raft/probing",
                PostBody::new(Empty::new()),
            )
        };
        match client.request(&link, PERIOD, get).await {
            Ok((StatusCode::OK, _)) => link.status.round_trip(started.elapsed()),
            Ok((status, _)) => {
                tracing::debug!(peer_id = %format_args!("{:x}", link.id), %status, "probe failed")
            }
            Err(error) => {
                tracing::debug!(peer_id = %format_args!("{:x}", link.id), %error, "probe failed")
            }
        }
    }
}
