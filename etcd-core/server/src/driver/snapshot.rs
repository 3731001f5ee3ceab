//! Sending the whole state to a follower that lags too far.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use etcd_proto::raftpb::{Message, Snapshot, SnapshotMetadata};
use etcd_replica::{ImageSource, Input};
use tokio::sync::oneshot;

use super::apply::ApplyTask;
use super::observation::Observation;
use super::peers::SnapshotSource;
use super::shared::Shared;

/// Sends the state as it is now; the message's index becomes that of the state.
pub(crate) fn send(shared: Arc<Shared>, apply: Sender<ApplyTask>, message: Message) {
    let to = message.to;
    let started = std::thread::Builder::new()
        .name(format!("snapshot-{to:x}"))
        .spawn({
            let shared = shared.clone();
            move || {
                if !try_send(&shared, &apply, message) {
                    shared.complete(Input::SnapshotSent { to, ok: false });
                }
            }
        });
    if let Err(error) = started {
        tracing::warn!(to = %format_args!("{to:x}"), %error, "failed to start a thread to send a snapshot");
        shared.complete(Input::SnapshotSent { to, ok: false });
    }
}

fn try_send(shared: &Shared, apply: &Sender<ApplyTask>, mut message: Message) -> bool {
    let (reply, captured) = oneshot::channel();
    if apply.send(ApplyTask::Capture(reply)).is_err() {
        return false;
    }
    let Ok(capture) = captured.blocking_recv() else {
        return false;
    };
    let metadata = SnapshotMetadata {
        index: capture.view.index,
        term: capture.view.term,
        conf_state: Some(capture.conf_state()),
    };
    let image = match ImageSource::plan(&capture) {
        Ok(image) => image,
        Err(error) => {
            tracing::warn!(%error, "failed to make a snapshot");
            return false;
        }
    };
    tracing::info!(
        to = %format_args!("{:x}", message.to),
        index = metadata.index,
        bytes = image.size(),
        "sending database snapshot"
    );
    // Receivers older than v3.7 read the membership from here.
    let data = etcd_replica::v2_store_json(&capture).into();
    message.snapshot = Some(Snapshot {
        data,
        metadata: Some(metadata),
    });
    shared.tell(Observation::SnapshotSending(message.to));
    shared.peers.send_snapshot(message, Box::new(Source(image)));
    true
}

struct Source(ImageSource);

impl SnapshotSource for Source {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn write_to(&mut self, out: &mut dyn std::io::Write) -> std::io::Result<()> {
        self.0.write_to(out)
    }
}
