use super::*;
use crate::api::TicketKind;

fn paper(pod_uid: &str) -> TicketPaper {
    TicketPaper {
        kind: TicketKind::Join,
        pod_uid: pod_uid.to_owned(),
        member_id: "8e9e05c52164694d".to_owned(),
        cluster_id: "cdf818194e3a8c32".to_owned(),
        token: "t-1".to_owned(),
        bump_revision: 0,
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
        hold: None,
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
        engine::held(path).unwrap_err().contains("no"),
        "there is no such program"
    );
    write("#!/bin/sh\necho etcd Version: 3.7.3\necho Git SHA: x\n");
    assert_eq!(engine::held(path).unwrap().version, "3.7.3");
    write("#!/bin/sh\nexit 1\n");
    assert!(
        engine::held(path)
            .unwrap_err()
            .contains("names no etcd version")
    );
}

#[test]
fn a_log_beside_the_store_of_another_server_is_reported_and_not_started() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("etcd");
    let image = |ours: bool| {
        let second = if ours {
            "echo etcd-core Version: 0.1.0"
        } else {
            "echo Git SHA: x"
        };
        fs::write(
            &program,
            format!("#!/bin/sh\necho etcd Version: 3.7.3\n{second}\n"),
        )
        .unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    };
    let admission = Admission {
        data_dir: dir.path().join("data"),
        state_dir: dir.path().to_owned(),
        ticket_file: dir.path().join("ticket"),
        pod_uid: "u".to_owned(),
        port: 0,
        command: Vec::new(),
        hold: None,
    };
    let member = dir.path().join("data/member");
    fs::create_dir_all(member.join("wal")).unwrap();
    fs::write(
        member.join("wal/0000000000000000-0000000000000000.wal"),
        b"x",
    )
    .unwrap();
    let look = || examine(&admission, program.to_str().unwrap());
    image(true);
    assert_eq!(look(), None, "a log alone may be anyone's");

    fs::create_dir_all(member.join("snap")).unwrap();
    fs::write(member.join("snap/db"), b"x").unwrap();
    assert_eq!(look(), None, "ours takes stock etcd's store over");
    image(false);
    assert_eq!(look(), None);

    fs::remove_file(member.join("snap/db")).unwrap();
    fs::create_dir_all(member.join("store")).unwrap();
    let report = look().unwrap();
    assert_eq!(report.found, Found::OtherEngine);
    assert_eq!(
        (report.engine, report.data),
        (Some(Engine::Etcd), Some(Engine::EtcdCore))
    );
    assert_eq!(report.version, None, "such a pod is not fit for a ticket");
    image(true);
    assert_eq!(look(), None);
    image(false);
    // A takeover that was cut off has not touched the store of stock etcd yet.
    fs::write(member.join("snap/db"), b"x").unwrap();
    assert_eq!(look(), None);
    fs::remove_file(member.join("snap/db")).unwrap();
    // An image that says nothing is started, and says itself what is wrong.
    fs::write(&program, "#!/bin/sh\nexit 1\n").unwrap();
    assert_eq!(look(), None);
}
