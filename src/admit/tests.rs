use super::*;
use crate::api::TicketKind;

fn paper(pod_uid: &str) -> TicketPaper {
    TicketPaper {
        kind: TicketKind::Join,
        pod_uid: pod_uid.to_owned(),
        member_id: "8e9e05c52164694d".to_owned(),
        cluster_id: "cdf818194e3a8c32".to_owned(),
        token: "t-1".to_owned(),
        initial_cluster: vec!["a-0=http://a".to_owned(), "a-1=http://b".to_owned()],
    }
}

#[test]
fn o12_a_log_starts_unaided_even_after_its_ticket_was_used() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir_all(data.join("member/wal")).unwrap();
    fs::write(
        data.join("member/wal/0000000000000000-0000000000000000.wal"),
        b"x",
    )
    .unwrap();
    record(dir.path(), &paper("u")).unwrap();
    assert_eq!(decide(&data, dir.path()).unwrap(), Decision::Start);
}

#[test]
fn o08_an_empty_disk_never_starts_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    assert_eq!(
        decide(&data, dir.path()).unwrap(),
        Decision::Wait(Found::Empty)
    );
    // Neither an empty folder nor an unfinished log is a log.
    fs::create_dir_all(data.join("member/wal.tmp")).unwrap();
    fs::create_dir_all(data.join("member/wal")).unwrap();
    assert_eq!(
        decide(&data, dir.path()).unwrap(),
        Decision::Wait(Found::Empty)
    );
    record(dir.path(), &paper("u")).unwrap();
    assert_eq!(
        decide(&data, dir.path()).unwrap(),
        Decision::Wait(Found::Spent)
    );
}

#[test]
fn o36_a_volume_that_cannot_be_used_is_not_called_empty() {
    let dir = tempfile::tempdir().unwrap();
    let admission = |data_dir: &Path| Admission {
        data_dir: data_dir.to_owned(),
        state_dir: dir.path().to_owned(),
        ticket_file: dir.path().join("ticket"),
        pod_uid: "u".to_owned(),
        port: 0,
        command: Vec::new(),
    };
    // The parent of the data directory is a file: neither readable nor writable.
    fs::write(dir.path().join("file"), b"").unwrap();
    let report = examine(&admission(&dir.path().join("file/data")), "true").unwrap();
    assert_eq!((report.found, report.version), (Found::Unknown, None));
    assert!(report.message.is_some());
    let report = examine(&admission(&dir.path().join("data")), "true").unwrap();
    assert_eq!(report.found, Found::Empty);
}

#[test]
fn o10_a_ticket_of_another_pod_is_refused() {
    let text = serde_json::to_string(&paper("one")).unwrap();
    assert_eq!(read_ticket(&text, "one"), Ok(Some(paper("one"))));
    assert!(
        read_ticket(&text, "two")
            .unwrap_err()
            .contains("made out to pod one")
    );
    assert_eq!(read_ticket("\n", "one"), Ok(None));
    assert!(
        read_ticket("{", "one")
            .unwrap_err()
            .contains("cannot be read")
    );
}

#[test]
fn a_ticket_says_how_etcd_starts() {
    assert_eq!(
        paper("u").flags(),
        [
            "--initial-cluster-state=existing",
            "--initial-cluster-token=t-1",
            "--initial-cluster=a-0=http://a,a-1=http://b",
        ]
    );
}

#[test]
fn the_version_is_asked_of_the_image_before_a_ticket_is_spent() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("etcd");
    let write = |text: &str| {
        use std::os::unix::fs::PermissionsExt;
        fs::write(&program, text).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    };
    let path = program.to_str().unwrap();
    assert!(
        version(path).unwrap_err().contains("no"),
        "there is no such program"
    );
    write("#!/bin/sh\necho etcd Version: 3.7.3\necho Git SHA: x\n");
    assert_eq!(version(path), Ok("3.7.3".to_owned()));
    write("#!/bin/sh\nexit 1\n");
    assert!(version(path).unwrap_err().contains("names no etcd version"));
}
