use super::*;
use crate::api::Destination;
use crate::backup::run::{FileSource, FoundingMember, Reach, Source};

fn run_of(members: &[(&str, &[&str])], member: &str) -> RestoreRun {
    RestoreRun {
        id: "r1".to_owned(),
        source: Source::File(FileSource {
            destination: Destination::default(),
            key: "x.db".to_owned(),
            sha256: None,
        }),
        expected_sha256: None,
        data_dir: PathBuf::from("/data/etcd"),
        member: member.to_owned(),
        members: members
            .iter()
            .map(|(name, urls)| FoundingMember {
                name: (*name).to_owned(),
                peer_urls: urls.iter().map(|url| (*url).to_owned()).collect(),
            })
            .collect(),
        token: "token".to_owned(),
        bump_revision: 5,
    }
}

#[test]
fn the_new_clusters_id_is_the_one_its_members_and_token_give() {
    let run = run_of(&[("a", &["http://a:2380"])], "a");
    let told = told(&run).unwrap();
    assert_eq!(
        told.member_id,
        crate::identity::member_id("http://a:2380", "token")
    );
    assert_eq!(told.bump_revision, 5);
    for bad in [
        run_of(&[("a", &["http://a:2380"])], "b"),
        run_of(&[("a", &[])], "a"),
    ] {
        assert_eq!(super::told(&bad).unwrap_err().reason, Reason::InvalidRun);
    }
}

fn record(id: &str) -> Record {
    Record {
        id: id.to_owned(),
        report: RestoreReport {
            source_cluster_id: None,
            cluster_id: "1".to_owned(),
            member_id: "2".to_owned(),
            folder: None,
            sha256: "00".to_owned(),
            reach: Reach {
                revision: 3,
                time: None,
                increments: 0,
            },
            revision: 8,
            compact_revision: 8,
            total_keys: 1,
        },
    }
}

#[test]
fn o21_a_directory_that_is_not_this_restores_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("etcd");
    let place = Place::new(&data).unwrap();
    place.check_empty().unwrap();
    fs::create_dir_all(data.join("member/wal")).unwrap();
    assert_eq!(place.done("r1").unwrap(), None);
    let failure = place.check_empty().unwrap_err();
    assert_eq!(failure.reason, Reason::DataDirNotEmpty);
    assert!(failure.message.contains("member"), "{failure}");
    // Another restore's is not this one's.
    fs::write(
        data.join(RECORD),
        serde_json::to_vec(&record("other")).unwrap(),
    )
    .unwrap();
    assert_eq!(place.done("r1").unwrap(), None);
    fs::write(data.join(RECORD), "{").unwrap();
    assert_eq!(place.done("r1").unwrap(), None);
}

#[test]
fn a_directory_is_known_again_by_the_restore_that_made_it() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("etcd");
    let place = Place::new(&data).unwrap();
    let made = place.work.join("member");
    fs::create_dir_all(made.join("snap")).unwrap();
    // Killed between the record and the directory: it is not done, and may be done again.
    fs::write(
        data.join(RECORD),
        serde_json::to_vec(&record("r1")).unwrap(),
    )
    .unwrap();
    assert_eq!(place.done("r1").unwrap(), None);
    place.check_empty().unwrap();
    place.settle(&made, &record("r1")).unwrap();
    assert_eq!(place.done("r1").unwrap(), Some(record("r1").report));
    assert_eq!(place.done("r2").unwrap(), None);
    place.tidy().unwrap();
    assert!(!place.work.exists() && data.join("member/snap").exists());
}
