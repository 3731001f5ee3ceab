//! One member of the cluster as pure state machines, driven alike by the server and
//! the simulation.
//!
//! ```text
//!  Input ──► Consensus::step ──► Effects ──► persist   (Wal, then Input::Persisted)
//!                                   │  ├──► send      (peers)
//!                                   │  └──► reads     (linearizable once applied)
//!                                   ▼
//!                             Applier::apply ──► Applied: view, outcomes, records
//!                                   │                 └──► Input::Applied
//!                                   ▼
//!                 capture ──► checkpoint (segments, rows, manifest), image (bbolt)
//!  open: manifest + log ──► Recovered { Consensus, Applier, Wal }
//! ```

mod alarms;
mod applier;
mod archive;
mod capture;
mod checkpoint;
mod consensus;
mod damage;
mod error;
mod identity;
mod image;
mod import;
pub mod lease;
mod member;
mod membership;
mod open;
mod quarantine;
mod restore;
mod revive;
mod rows_file;
mod schema;
mod snapshot_file;
mod stock;
mod v2store;
mod view;

pub use alarms::Alarms;
pub use applier::{Applied, Applier, ApplierConfig, ApplyError, ApplyFault, Outcome, Response};
pub use archive::{Part, SegmentArchive};
pub use capture::Capture;
pub use checkpoint::{Checkpoint, checkpoint, store_directory};
pub use consensus::{Consensus, Effects, Input, Persist, Rejection, Standing};
pub use damage::{Damage, Damaged};
pub use error::{OpenError, StoreError};
pub use identity::{cluster_id, member_id};
pub use image::{ImageError, ImageSource};
pub use lease::{LeaseConfig, Lessor, Renewal};
pub use member::{ConfChangeContext, Member};
pub use membership::{Membership, MembershipError};
pub use open::{Boot, RaftSettings, Recovered, exists, image_path, install, open, open_with};
pub use quarantine::quarantine;
pub use restore::{
    Change, ChangeEvent, ChangedLease, ChangesError, Restore, RestoreError, Restored,
    UNKNOWN_LEASE_TTL_S, restore, restore_with,
};
pub use revive::{Found, Layout, ReviveError, Revived, inspect, revive};
pub use schema::{BUCKETS, Downgrade, Row, RowError, Rows};
pub use snapshot_file::{SnapshotFile, SnapshotFileError, SnapshotStatus, Summary};
pub use v2store::v2_store_json;
pub use view::View;
