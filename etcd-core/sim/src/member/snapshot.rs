//! The whole state on its way to a follower that lags too far.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use etcd_proto::raftpb::{Message, Snapshot, SnapshotMetadata};
use etcd_replica::{ImageSource, Input, image_path};
use etcd_storage::disk::{Disk, DiskResult};

use super::start::DIRECTORY;
use super::{Death, Process};
use crate::env::Env;
use crate::event::{Event, MS};

impl Process {
    /// Sends the state as it is now; the message's index becomes that of the state.
    pub(super) fn send_snapshot(
        &mut self,
        mut message: Message,
        env: &mut Env,
    ) -> Result<(), Death> {
        let capture = self.applier.capture(false);
        let metadata = SnapshotMetadata {
            index: capture.view.index,
            term: capture.view.term,
            conf_state: Some(capture.conf_state()),
        };
        let mut image = Vec::new();
        ImageSource::plan(&capture)
            .map_err(|error| Death::Bug(error.to_string()))?
            .write_to(&mut image)
            .map_err(|error| Death::Bug(error.to_string()))?;
        let (at, to) = (message.from, message.to);
        env.note(format_args!(
            "{at:x} sends snapshot {} to {to:x}",
            metadata.index
        ));
        message.snapshot = Some(Snapshot {
            metadata: Some(metadata),
            ..Snapshot::default()
        });
        if env.is_cut(at, to) || env.random.permille(5 * env.settings.drop) {
            let fate = Event::SnapshotFate { at, to, ok: false };
            env.soon(50 * MS, 800 * MS, fate);
            return Ok(());
        }
        let event = Event::Snapshot {
            message: Box::new(message),
            image: image.into(),
        };
        env.soon(5 * MS, 400 * MS, event);
        Ok(())
    }

    /// Puts a received image where a start looks for it, and only then lets raft know.
    pub(crate) fn receive_snapshot(
        &mut self,
        message: Message,
        image: &Bytes,
        env: &mut Env,
    ) -> Result<(), Death> {
        let metadata = message.snapshot.as_ref().and_then(|s| s.metadata.as_ref());
        let index = metadata.map_or(0, |m| m.index);
        self.keep(index, image)
            .map_err(|error| Death::Disk(error.to_string()))?;
        self.receive(Input::Message(message), env);
        Ok(())
    }

    fn keep(&self, index: u64, image: &Bytes) -> DiskResult<()> {
        let snap: PathBuf = Path::new(DIRECTORY).join("snap");
        let temporary = snap.join("received.tmp");
        if self.disk.exists(&temporary)? {
            self.disk.unlink(&temporary)?;
        }
        let file = self.disk.create(&temporary)?;
        file.write_at(0, image)?;
        file.sync_data()?;
        let path = image_path(Path::new(DIRECTORY), index);
        self.disk.rename(&temporary, &path)?;
        self.disk.sync_dir(&snap)
    }
}
