//! A segment that changed after it was written: who notices, and what a start makes of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use etcd_mvcc::ReadError;
use etcd_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, InternalRaftRequest, PutRequest, RangeRequest,
};
use etcd_proto::raftpb::{ConfChange, ConfChangeType, Entry, EntryType};
use etcd_replica::{
    ApplierConfig, ApplyFault, Boot, ConfChangeContext, ImageSource, LeaseConfig, Member,
    OpenError, RaftSettings, Recovered, StoreError, checkpoint, open, quarantine,
};
use etcd_storage::disk::Disk;
use etcd_storage::segment::SegmentError;
use etcd_storage::simdisk::SimDisk;
use prost::Message as _;

const DIRECTORY: &str = "/data/member";

fn members(count: u64) -> Vec<Member> {
    let member = |id| Member {
        id,
        peer_urls: vec![format!("http://member-{id}.example:2380")],
        ..Member::default()
    };
    (1..=count).map(member).collect()
}

fn open_member(disk: &SimDisk, count: u64, alone: bool) -> Result<Recovered, OpenError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let boot = Boot::New {
        member_id: 1,
        members: members(count),
    };
    let settings = RaftSettings {
        election_tick: 10,
        heartbeat_tick: 1,
        pre_vote: true,
        check_quorum: true,
        seed: 1,
        force_new_cluster: alone,
    };
    let directory = Path::new(DIRECTORY);
    let config = |member_id| ApplierConfig {
        member_id,
        max_learners: 1,
        quota_bytes: None,
        lease: LeaseConfig::default(),
    };
    open(
        &disk,
        directory,
        &directory.join("wal"),
        &boot,
        &settings,
        config,
    )
}

fn apply(
    member: &mut Recovered,
    r#type: EntryType,
    data: Vec<u8>,
) -> Result<etcd_replica::Applied, ApplyFault> {
    member.applier.apply(&[Entry {
        term: 1,
        index: member.applier.index() + 1,
        r#type: r#type as i32,
        data: data.into(),
    }])
}

fn request(
    member: &mut Recovered,
    request: InternalRaftRequest,
) -> Result<etcd_replica::Applied, ApplyFault> {
    apply(member, EntryType::EntryNormal, request.encode_to_vec())
}

fn put(key: &'static str) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: vec![b'v'; 100].into(),
        ..PutRequest::default()
    }
}

fn write(member: &mut Recovered, write: PutRequest) -> Result<etcd_replica::Applied, ApplyFault> {
    let write = InternalRaftRequest {
        put: Some(write),
        ..InternalRaftRequest::default()
    };
    request(member, write)
}

/// A member of so many with three keys in a segment, stopped, and that segment.
fn stopped(count: u64) -> (SimDisk, PathBuf) {
    let disk = SimDisk::new(1);
    let mut member = open_member(&disk, count, false).expect("no fault but the planted one");
    for one in members(count) {
        let context = ConfChangeContext {
            member: one.clone(),
            is_promote: false,
        };
        let change = ConfChange {
            r#type: ConfChangeType::ConfChangeAddNode as i32,
            node_id: one.id,
            context: serde_json::to_vec(&context)
                .expect("no fault but the planted one")
                .into(),
            id: 0,
        };
        apply(
            &mut member,
            EntryType::EntryConfChange,
            change.encode_to_vec(),
        )
        .expect("no fault but the planted one");
    }
    for key in ["damaged", "deleted", "sound"] {
        write(&mut member, put(key)).expect("no fault but the planted one");
    }
    let capture = member.applier.capture(false);
    let written =
        checkpoint(&disk, Path::new(DIRECTORY), &capture).expect("no fault but the planted one");
    let names = written.archive.names();
    assert_eq!(names.len(), 1);
    (disk, Path::new(DIRECTORY).join("store").join(&names[0]))
}

/// In the first value, which begins behind the 16 bytes of the header.
fn flip(disk: &SimDisk, segment: &Path) {
    disk.flip_bit(segment, 80, 3)
        .expect("no fault but the planted one");
}

/// Goes for what is damaged.
type Read = fn(&SimDisk, &mut Recovered);

#[test]
fn s11_whoever_reads_damage_fails_and_notes_it() {
    let readers: [(&str, Read); 7] = [
        ("a range", |_, member| {
            let asked = RangeRequest {
                key: "damaged".into(),
                ..RangeRequest::default()
            };
            let read = member.applier.view().kv.range(&asked);
            assert!(matches!(read, Err(ReadError::Archive(_))), "{read:?}");
        }),
        ("a hash of the keys", |_, member| {
            let hash = member.applier.view().kv.hash_kv(0);
            assert!(matches!(hash, Err(ReadError::Archive(_))), "{hash:?}");
        }),
        ("a hash of everything", |_, member| {
            member.applier.capture(false).hash().unwrap_err();
        }),
        ("an image", |_, member| {
            let image = ImageSource::plan(&member.applier.capture(false)).unwrap();
            image.write_to(&mut Vec::new()).unwrap_err();
        }),
        ("an entry that asks for the value before", |_, member| {
            let asked = PutRequest {
                prev_kv: true,
                ..put("damaged")
            };
            let fault = write(member, asked).err();
            assert!(matches!(fault, Some(ApplyFault::Store { .. })), "{fault:?}");
        }),
        ("a compaction", |_, member| {
            let delete = InternalRaftRequest {
                delete_range: Some(DeleteRangeRequest {
                    key: "damaged".into(),
                    ..DeleteRangeRequest::default()
                }),
                ..InternalRaftRequest::default()
            };
            request(member, delete).unwrap();
            let revision = member.applier.view().kv.revision();
            let compaction = InternalRaftRequest {
                compaction: Some(CompactionRequest {
                    revision,
                    physical: true,
                }),
                ..InternalRaftRequest::default()
            };
            request(member, compaction).unwrap();
            let step = member.applier.compact_step(10);
            assert!(matches!(step, Err(ReadError::Archive(_))), "{step:?}");
        }),
        ("a checkpoint that joins segments", |disk, member| {
            let failed = (0..4).find_map(|_| {
                write(member, put("more")).unwrap();
                let capture = member.applier.capture(false);
                match checkpoint(disk, Path::new(DIRECTORY), &capture) {
                    Ok(written) => {
                        member.applier.checkpointed(&written, 0);
                        None
                    }
                    Err(error) => Some(error),
                }
            });
            let corrupt =
                |error| matches!(error, StoreError::Segment(SegmentError::Corrupt { .. }));
            assert!(failed.is_some_and(corrupt));
        }),
    ];
    for (name, read) in readers {
        let (disk, segment) = stopped(3);
        flip(&disk, &segment);
        let mut member = open_member(&disk, 3, false).unwrap();
        let view = member.applier.view();
        let sound = view.kv.get(b"sound", 0).unwrap().unwrap();
        assert_eq!(sound.value.len(), 100, "{name}");
        assert_eq!(view.damage.found(), None, "{name}");
        read(&disk, &mut member);
        let damaged = view.damage.found().expect(name);
        assert_eq!(damaged.file, segment, "{name}");
    }
}

#[test]
fn s11_a_member_that_was_stopped_for_damage_starts_only_if_it_cannot_be_done_without() {
    for (count, alone, refused) in [
        (1, false, false),
        (2, false, false),
        (3, false, true),
        (3, true, false),
    ] {
        let (disk, segment) = stopped(count);
        flip(&disk, &segment);
        let member = open_member(&disk, count, false).unwrap();
        let view = member.applier.view();
        view.kv.hash_kv(0).unwrap_err();
        let damaged = view.damage.found().unwrap();
        quarantine(&disk, Path::new(DIRECTORY), damaged).unwrap();
        // Who dies twice notes it twice.
        quarantine(&disk, Path::new(DIRECTORY), damaged).unwrap();
        drop(member);
        match open_member(&disk, count, alone) {
            Ok(member) => {
                assert!(!refused, "{count} members");
                // It knows from the start.
                assert!(member.applier.view().damage.found().is_some());
            }
            Err(OpenError::Quarantined(SegmentError::Corrupt { file, .. })) => {
                assert!(refused, "{count} members");
                assert_eq!(file, segment);
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn s11_a_note_of_a_segment_that_is_sound_again_is_dropped() {
    let (disk, segment) = stopped(3);
    flip(&disk, &segment);
    let member = open_member(&disk, 3, false).unwrap();
    let view = member.applier.view();
    view.kv.hash_kv(0).unwrap_err();
    let damaged = view.damage.found().unwrap();
    quarantine(&disk, Path::new(DIRECTORY), damaged).unwrap();
    drop(member);
    let note = segment.with_file_name("quarantine");
    assert!(disk.exists(&note).unwrap());
    flip(&disk, &segment);
    let member = open_member(&disk, 3, false).unwrap();
    assert_eq!(member.applier.view().damage.found(), None);
    member.applier.view().kv.hash_kv(0).unwrap();
    assert!(!disk.exists(&note).unwrap());
}
