use etcd_proto::{
    etcdserverpb::{InternalRaftRequest, PutRequest},
    raftpb::{Entry, HardState},
};
use etcd_replica::{ApplierConfig, Boot, LeaseConfig, RaftSettings, open};
use prost::Message as _;

use super::*;
use crate::api::TicketKind;

const URL: &str = "http://demo-1-0.demo-peer.n.svc:2380";

fn open_member(data_dir: &Path) -> etcd_replica::Recovered {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let member = data_dir.join("member");
    let boot = Boot::New {
        member_id: 2,
        members: (1..=3)
            .map(|id| Member {
                id,
                peer_urls: vec![format!("http://member-{id}:2380")],
                ..Member::default()
            })
            .collect(),
    };
    let settings = RaftSettings {
        election_tick: 10,
        heartbeat_tick: 1,
        pre_vote: true,
        check_quorum: true,
        seed: 1,
        force_new_cluster: false,
    };
    let config = |member_id| ApplierConfig {
        member_id,
        max_learners: 1,
        quota_bytes: None,
        lease: LeaseConfig::default(),
    };
    open(
        &disk,
        &member,
        &member.join("wal"),
        &boot,
        &settings,
        config,
    )
    .unwrap()
}

/// A member whose log ends at index 20 and term 4, of which 12 are known to be committed.
fn survivor(data_dir: &Path) {
    let mut member = open_member(data_dir);
    let put = |index: u64| {
        let request = InternalRaftRequest {
            put: Some(PutRequest {
                key: format!("key-{index}").into_bytes().into(),
                value: "value".into(),
                ..PutRequest::default()
            }),
            ..InternalRaftRequest::default()
        };
        Entry {
            index,
            term: 4,
            data: request.encode_to_vec().into(),
            ..Entry::default()
        }
    };
    let entries: Vec<Entry> = (4..=20).map(put).collect();
    let state = HardState {
        term: 5,
        vote: 2,
        commit: 12,
    };
    member.wal.append(Some(&state), &entries).unwrap();
    member.wal.sync().unwrap();
}

fn ticket(token: &str) -> TicketPaper {
    let id = identity::member_id(URL, token);
    TicketPaper {
        kind: TicketKind::Revive,
        pod_uid: "u".to_owned(),
        member_id: identity::hex(id),
        cluster_id: identity::hex(identity::cluster_id(&[id])),
        token: token.to_owned(),
        initial_cluster: vec![format!("demo-1={URL}")],
        bump_revision: 1000,
    }
}

#[test]
fn o09_a_survivor_tells_its_log_and_makes_a_new_cluster_of_it_beside_the_old() {
    let volume = tempfile::tempdir().unwrap();
    let data = volume.path().join("data");
    survivor(&data);
    let before = examine(&data).unwrap();
    assert_eq!(
        (
            before.term,
            before.last_term,
            before.last_index,
            before.commit
        ),
        (5, 4, 20, 12)
    );
    assert!(!is_done(&data, "r").unwrap());
    let paper = ticket("r-1-demo-1");
    make(&data, &paper).unwrap();
    let after = examine(&data).unwrap();
    assert_eq!(
        (after.cluster_id.as_str(), after.member_id.as_str()),
        (paper.cluster_id.as_str(), paper.member_id.as_str())
    );
    assert!(is_done(&data, "r").unwrap() && !is_done(&data, "other").unwrap());
    // The old one lies beside it, unaltered.
    let kept = volume.path().join(format!(
        "replaced-{}-{}",
        before.cluster_id, paper.member_id
    ));
    assert_eq!(examine(&kept).unwrap(), before);
    // And the new one opens, with all of the log.
    let member = data.join("member");
    let found = inspect(&RealDisk, &member, &member.join("wal")).unwrap();
    assert_eq!(found.members.len(), 1);
    assert_eq!(found.revision, 1 + 17 + 1000);
}

#[test]
fn o02_a_swap_that_was_cut_off_is_finished_and_no_disk_is_taken_for_empty() {
    let volume = tempfile::tempdir().unwrap();
    let data = volume.path().join("data");
    survivor(&data);
    let paper = ticket("r-1-demo-1");
    make(&data, &paper).unwrap();
    // As it is between the two renames.
    fs::rename(&data, volume.path().join("revived")).unwrap();
    finish(&data).unwrap();
    assert!(is_done(&data, "r").unwrap());
    assert_eq!(examine(&data).unwrap().cluster_id, paper.cluster_id);
    // Before the first of them all is as it was, and what was made is made again.
    let volume = tempfile::tempdir().unwrap();
    let data = volume.path().join("data");
    survivor(&data);
    fs::create_dir_all(volume.path().join("revived/member")).unwrap();
    fs::write(volume.path().join("revived/revived"), "r-1-demo-1").unwrap();
    finish(&data).unwrap();
    assert!(!is_done(&data, "r").unwrap());
    make(&data, &ticket("r-2-demo-1")).unwrap();
    assert!(is_done(&data, "r-2").unwrap());
}

#[test]
fn a_ticket_that_does_not_add_up_changes_nothing() {
    let volume = tempfile::tempdir().unwrap();
    let data = volume.path().join("data");
    survivor(&data);
    let before = examine(&data).unwrap();
    let mut paper = ticket("r-1-demo-1");
    paper.token = "another".to_owned();
    let failure = make(&data, &paper).unwrap_err();
    assert_eq!(failure.reason, Reason::InvalidRun);
    assert_eq!(examine(&data).unwrap(), before);
}
