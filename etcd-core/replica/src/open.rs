//! A member's directory, opened or made.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use etcd_mvcc::{RestoredRecord, Revision, Store};
use etcd_proto::etcdserverpb::Metadata;
use etcd_proto::raftpb::{ConfChange, ConfChangeType, Entry, EntryType, HardState};
use etcd_proto::walpb;
use etcd_raft::{Config, Raft, Restored};
use etcd_storage::dir::create_durable;
use etcd_storage::disk::Disk;
use etcd_storage::manifest::Manifest;
use etcd_storage::wal::{Options, Replay, Wal};
use prost::Message as _;

use crate::applier::{Applier, ApplierConfig};
use crate::archive::SegmentArchive;
use crate::checkpoint::store_directory;
use crate::consensus::Consensus;
use crate::error::{OpenError, StoreError};
use crate::identity::cluster_id;
use crate::import;
use crate::lease::Lessor;
use crate::member::Member;
use crate::quarantine;
use crate::rows_file;
use crate::schema::Rows;
use crate::stock::{self, StockStore};

/// What to do with a directory that holds no log yet.
#[derive(Clone, Debug)]
pub enum Boot {
    /// Begin a new cluster of these members, of which this one has `member_id`.
    New {
        /// This member.
        member_id: u64,
        /// All members, this one included.
        members: Vec<Member>,
    },
    /// Join a running cluster; everything is learnt from its leader.
    Join {
        /// This member, as the cluster knows it.
        member_id: u64,
        /// The cluster.
        cluster_id: u64,
    },
}

/// Settings of raft that a start needs; times are in ticks.
#[derive(Clone, Debug)]
pub struct RaftSettings {
    /// Ticks without a leader until an election.
    pub election_tick: u32,
    /// Ticks between heartbeats.
    pub heartbeat_tick: u32,
    /// Ask before disturbing.
    pub pre_vote: bool,
    /// Quorum checks of the leader.
    pub check_quorum: bool,
    /// For the jitter of elections.
    pub seed: u64,
    /// Give up all other members: what is committed stays, what is not is dropped,
    /// and this member goes on alone.
    pub force_new_cluster: bool,
}

/// An opened member.
pub struct Recovered {
    /// Consensus, restored.
    pub consensus: Consensus,
    /// State as of the last checkpoint; the log above it is applied by consensus.
    pub applier: Applier,
    /// The log, positioned for appending.
    pub wal: Wal,
    /// This member.
    pub member_id: u64,
    /// Its cluster.
    pub cluster_id: u64,
    /// Index of the last checkpoint.
    pub checkpointed_index: u64,
    /// Whether the log was made by this start.
    pub is_new: bool,
    /// The directory was stock etcd's: where its store is kept now.
    pub taken_over: Option<PathBuf>,
}

/// Whether the directory holds a member already.
pub fn exists(disk: &dyn Disk, wal_directory: &Path) -> Result<bool, OpenError> {
    Ok(Wal::exists(disk, wal_directory)?)
}

/// Where the image of a received snapshot is kept until it is installed.
pub fn image_path(directory: &Path, index: u64) -> PathBuf {
    directory.join("snap").join(format!("{index:016x}.snap.db"))
}

/// Opens a member, or makes it as `boot` says.
pub fn open(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    wal_directory: &Path,
    boot: &Boot,
    settings: &RaftSettings,
    applier_config: impl FnOnce(u64) -> ApplierConfig,
) -> Result<Recovered, OpenError> {
    let wal = Options::default();
    open_with(
        disk,
        directory,
        wal_directory,
        boot,
        settings,
        wal,
        applier_config,
    )
}

/// [`open`] with other options for the log.
pub fn open_with(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    wal_directory: &Path,
    boot: &Boot,
    settings: &RaftSettings,
    wal_options: Options,
    applier_config: impl FnOnce(u64) -> ApplierConfig,
) -> Result<Recovered, OpenError> {
    let store = store_directory(directory);
    let is_new = !Wal::exists(&**disk, wal_directory)?;
    if is_new
        && Manifest::load(&**disk, &store)
            .map_err(StoreError::from)?
            .is_some()
    {
        return Err(OpenError::LogMissing(store));
    }
    let stock = StockStore::find(&**disk, directory)?;
    if let (true, Some(stock)) = (is_new, &stock) {
        return Err(OpenError::LogMissing(stock.path().to_owned()));
    }
    // Durably: whatever is synced below them later must not vanish with their names.
    create_durable(&**disk, &directory.join("snap"))?;
    create_durable(&**disk, &store)?;
    if is_new {
        let metadata = metadata_of(boot);
        drop(Wal::create_with(
            disk.clone(),
            wal_directory,
            &metadata,
            wal_options,
        )?);
    }
    if let Some(stock) = &stock {
        stock.import(&**disk, directory, wal_directory)?;
    }
    finish_switch(&**disk, directory, wal_directory)?;
    let manifest = Manifest::load(&**disk, &store).map_err(StoreError::from)?;
    let base = manifest.as_ref().map_or((0, 0), |m| (m.index, m.term));
    let from = newest_snapshot(&**disk, wal_directory, base.0)?;
    let (mut wal, mut replay) = Wal::open_with(disk.clone(), wal_directory, &from, wal_options)?;
    let metadata = replay.metadata;
    if manifest.is_none() && (replay.hard_state.vote, replay.hard_state.commit) == (0, 0) {
        // The first start got no further than the log's head, or lost power while it
        // wrote: some of the entries may be there, the hard state behind them is not.
        begin(&mut wal, &mut replay, boot)?;
    }
    let config = applier_config(metadata.node_id);
    let applier = match &manifest {
        Some(manifest) => load(disk, &store, manifest, config)?,
        None => fresh(config),
    };
    if settings.force_new_cluster && !is_new {
        stand_alone(&mut wal, &mut replay, metadata.node_id, base, &applier)?;
    }
    if stock.is_some() {
        stock::refuse_auth(&replay.entries, base.0)?;
    }
    let consensus = restore(settings, metadata.node_id, base, &applier, replay)?;
    // Whoever makes a cluster of this member alone knows that there is no other.
    let others_are_quorum = consensus.others_are_quorum() && !settings.force_new_cluster;
    quarantine::check(&**disk, &store, applier.archive(), others_are_quorum)?;
    // Only now: until here nothing has been lost to a stock etcd.
    let taken_over = stock.map(|s| s.set_aside(&**disk)).transpose()?;
    remove_images(&**disk, directory)?;
    Ok(Recovered {
        consensus,
        applier,
        wal,
        member_id: metadata.node_id,
        cluster_id: metadata.cluster_id,
        checkpointed_index: base.0,
        is_new,
        taken_over,
    })
}

/// The newest snapshot record at or below `index`.
pub(crate) fn newest_snapshot(
    disk: &dyn Disk,
    wal_directory: &Path,
    index: u64,
) -> Result<walpb::Snapshot, OpenError> {
    let records = Wal::valid_snapshots(disk, wal_directory)?;
    let below = records.into_iter().filter(|s| s.index <= index);
    Ok(below.max_by_key(|s| s.index).unwrap_or_default())
}

/// Installs a received image whose record is in the log: the state becomes the
/// image's, and the manifest names it.
pub fn install(
    disk: &Arc<dyn Disk>,
    directory: &Path,
    config: ApplierConfig,
    index: u64,
) -> Result<Applier, StoreError> {
    let store = store_directory(directory);
    let path = image_path(directory, index);
    let manifest = import::import(&**disk, &store, &path)?;
    remove_unnamed(&**disk, &store, &manifest)?;
    disk.unlink(&path)?;
    load(disk, &store, &manifest, config)
}

fn metadata_of(boot: &Boot) -> Metadata {
    match boot {
        Boot::New { member_id, members } => {
            let ids: Vec<u64> = members.iter().map(|m| m.id).collect();
            Metadata {
                node_id: *member_id,
                cluster_id: cluster_id(&ids),
            }
        }
        Boot::Join {
            member_id,
            cluster_id,
        } => Metadata {
            node_id: *member_id,
            cluster_id: *cluster_id,
        },
    }
}

/// A new cluster's log is the same on every member: its members join it one by one,
/// in the order of their IDs, all of it committed.
fn begin(wal: &mut Wal, replay: &mut Replay, boot: &Boot) -> Result<(), OpenError> {
    let Boot::New { members, .. } = boot else {
        return Ok(());
    };
    // The flags may have changed since the log was made; then they count for nothing.
    if metadata_of(boot) != replay.metadata {
        return Ok(());
    }
    let entries = founding_entries(members);
    if !entries.starts_with(&replay.entries) {
        // It joined, and has not heard yet what is committed.
        return Ok(());
    }
    let hard_state = HardState {
        term: 1,
        vote: 0,
        commit: entries.len() as u64,
    };
    wal.append(Some(&hard_state), &entries)?;
    wal.sync()?;
    replay.hard_state = hard_state;
    replay.entries = entries;
    Ok(())
}

/// The entries by which members join a new cluster, in the order of their IDs.
pub(crate) fn founding_entries(members: &[Member]) -> Vec<Entry> {
    let mut members = members.to_vec();
    members.sort_by_key(|m| m.id);
    let mut entries = Vec::with_capacity(members.len());
    for (member, index) in members.iter().zip(1u64..) {
        let context = serde_json::to_vec(member).expect("a member has a JSON form");
        let change = ConfChange {
            r#type: ConfChangeType::ConfChangeAddNode as i32,
            node_id: member.id,
            context: context.into(),
            id: 0,
        };
        entries.push(Entry {
            term: 1,
            index,
            r#type: EntryType::EntryConfChange as i32,
            data: change.encode_to_vec().into(),
        });
    }
    entries
}

/// Ends the committed log with the removal of every other member, committed by this
/// member's own word. Entries that were not committed are replaced.
fn stand_alone(
    wal: &mut Wal,
    replay: &mut Replay,
    member_id: u64,
    base: (u64, u64),
    applier: &Applier,
) -> Result<(), OpenError> {
    let commit = replay.hard_state.commit.max(base.0);
    replay.entries.retain(|e| e.index <= commit);
    let conf_state = applier.conf_state();
    let mut members: BTreeSet<u64> = conf_state
        .voters
        .into_iter()
        .chain(conf_state.learners)
        .collect();
    for entry in replay.entries.iter().filter(|e| e.index > base.0) {
        if entry.r#type() != EntryType::EntryConfChange {
            continue;
        }
        // One that cannot be read stops the member when it is applied.
        let Ok(change) = ConfChange::decode(entry.data.clone()) else {
            continue;
        };
        match change.r#type() {
            ConfChangeType::ConfChangeRemoveNode => members.remove(&change.node_id),
            ConfChangeType::ConfChangeUpdateNode => false,
            ConfChangeType::ConfChangeAddNode | ConfChangeType::ConfChangeAddLearnerNode => {
                members.insert(change.node_id)
            }
        };
    }
    members.remove(&member_id);
    let removals: Vec<Entry> = members
        .into_iter()
        .zip(commit + 1..)
        .map(|(node_id, index)| {
            let r#type = ConfChangeType::ConfChangeRemoveNode as i32;
            let change = ConfChange {
                r#type,
                node_id,
                ..ConfChange::default()
            };
            Entry {
                term: replay.hard_state.term,
                index,
                r#type: EntryType::EntryConfChange as i32,
                data: change.encode_to_vec().into(),
            }
        })
        .collect();
    replay.hard_state.commit = commit + removals.len() as u64;
    wal.append(Some(&replay.hard_state), &removals)?;
    wal.sync()?;
    replay.entries.extend(removals);
    Ok(())
}

/// A received snapshot whose record is durable becomes the store, if the last run
/// ended before that; files that the manifest does not name are removed.
fn finish_switch(disk: &dyn Disk, directory: &Path, wal_directory: &Path) -> Result<(), OpenError> {
    let store = store_directory(directory);
    let manifest = Manifest::load(disk, &store).map_err(StoreError::from)?;
    let newest: walpb::Snapshot = Wal::valid_snapshots(disk, wal_directory)?
        .into_iter()
        .max_by_key(|s| s.index)
        .unwrap_or_default();
    let have = manifest.as_ref().map_or(0, |m| m.index);
    if newest.index > have {
        let path = image_path(directory, newest.index);
        if !disk.exists(&path)? {
            return Err(OpenError::SnapshotMissing {
                index: newest.index,
                path,
            });
        }
        let manifest = import::import(disk, &store, &path)?;
        remove_unnamed(disk, &store, &manifest)?;
    } else if let Some(manifest) = &manifest {
        remove_unnamed(disk, &store, manifest)?;
    }
    Ok(())
}

/// Removes received images: each is the store by now, or has no record.
fn remove_images(disk: &dyn Disk, directory: &Path) -> Result<(), OpenError> {
    let snap = directory.join("snap");
    for entry in disk.list(&snap)? {
        if entry.name.to_string_lossy().ends_with(".snap.db") {
            disk.unlink(&snap.join(&entry.name))?;
        }
    }
    Ok(())
}

fn remove_unnamed(disk: &dyn Disk, store: &Path, manifest: &Manifest) -> Result<(), StoreError> {
    for entry in disk.list(store)? {
        let name = entry.name.to_string_lossy();
        let named = manifest.segments.iter().any(|s| *s == name) || manifest.rows == name;
        let ours = name.ends_with(".seg") || name.ends_with(".rows") || name.ends_with(".tmp");
        if ours && !named {
            disk.unlink(&store.join(&entry.name))?;
        }
    }
    Ok(())
}

pub(crate) fn fresh(config: ApplierConfig) -> Applier {
    let lessor = Lessor::new(config.lease.clone());
    let archive = Arc::new(SegmentArchive::default());
    let store = Store::new(archive.clone());
    Applier::new(config, store, Rows::default(), lessor, archive)
}

pub(crate) fn load(
    disk: &Arc<dyn Disk>,
    store: &Path,
    manifest: &Manifest,
    config: ApplierConfig,
) -> Result<Applier, StoreError> {
    let archive = Arc::new(SegmentArchive::open(&**disk, store, &manifest.segments)?);
    let mut rows = rows_file::read(&**disk, store, &manifest.rows)?;
    rows.consistent_index = manifest.index;
    rows.term = manifest.term;
    let mut kv = Store::new(archive.clone());
    let mut leased: BTreeMap<Bytes, i64> = BTreeMap::new();
    for part in archive.parts() {
        for item in part.segment.records() {
            let (meta, key, _) = item?;
            if meta.lease != 0 {
                leased.insert(Bytes::copy_from_slice(key), meta.lease);
            } else if !leased.is_empty() {
                leased.remove(key);
            }
            kv.load(RestoredRecord {
                rev: Revision::new(meta.main, meta.sub),
                tombstone: meta.tombstone,
                key,
                create_revision: meta.create_revision,
                version: meta.version,
                lease: meta.lease,
            });
        }
    }
    let compacted = if manifest.compact_revision > 0 {
        manifest.compact_revision
    } else {
        -1
    };
    let dead = kv.finish_load(manifest.revision, compacted);
    let dead_bytes = dead
        .into_iter()
        .filter_map(|rev| archive.record_bytes(rev))
        .sum();
    let mut lessor = Lessor::from_rows(config.lease.clone(), &rows.leases)?;
    for (key, lease) in leased {
        // A key whose lease is gone stays for ever, as it does with etcd.
        if lessor.contains(lease) {
            lessor
                .attach(lease, key)
                .map_err(|_| StoreError::Lease(lease))?;
        }
    }
    let mut applier = Applier::new(config, kv, rows, lessor, archive);
    applier.add_dead_bytes(dead_bytes);
    Ok(applier)
}

fn restore(
    settings: &RaftSettings,
    member_id: u64,
    base: (u64, u64),
    applier: &Applier,
    replay: Replay,
) -> Result<Consensus, OpenError> {
    let entries: Vec<Entry> = replay
        .entries
        .into_iter()
        .filter(|e| e.index > base.0)
        .collect();
    if let Some(first) = entries.first()
        && first.index != base.0 + 1
    {
        return Err(OpenError::Gap {
            log: first.index,
            store: base.0,
        });
    }
    let mut hard_state = replay.hard_state;
    hard_state.commit = hard_state.commit.max(base.0);
    hard_state.term = hard_state.term.max(base.1);
    let config = Config {
        id: member_id,
        election_tick: settings.election_tick,
        heartbeat_tick: settings.heartbeat_tick,
        max_size_per_message: 1 << 20,
        max_inflight_messages: 512,
        max_inflight_bytes: 64 << 20,
        max_uncommitted_bytes: 1 << 30,
        check_quorum: settings.check_quorum,
        pre_vote: settings.pre_vote,
        seed: settings.seed,
    };
    let restored = Restored {
        hard_state,
        conf_state: applier.conf_state(),
        snapshot_index: base.0,
        snapshot_term: base.1,
        entries,
        applied: base.0,
    };
    Ok(Consensus::new(Raft::new(config, restored)?))
}
