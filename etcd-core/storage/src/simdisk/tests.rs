use super::*;

fn p(path: &str) -> &Path {
    Path::new(path)
}

fn content(disk: &SimDisk, path: &str) -> Option<Vec<u8>> {
    Some(
        disk.open(p(path), OpenMode::Read)
            .ok()?
            .map()
            .unwrap()
            .to_vec(),
    )
}

/// A durable file `/f` with 2048 bytes of `1`.
fn with_file(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed);
    let file = disk.create(p("/f")).unwrap();
    file.write_at(0, &[1; 2048]).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(p("/")).unwrap();
    disk
}

#[test]
fn what_is_synced_survives() {
    for seed in 0..50 {
        let disk = with_file(seed);
        disk.crash();
        assert_eq!(content(&disk, "/f"), Some(vec![1; 2048]), "seed {seed}");
    }
}

#[test]
fn unsynced_writes_tear_along_sectors() {
    let mut outcomes = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let disk = with_file(seed);
        disk.open(p("/f"), OpenMode::Write)
            .unwrap()
            .write_at(100, &[2; 1500])
            .unwrap();
        disk.crash();
        let bytes = content(&disk, "/f").unwrap();
        let kept = [100, 512, 1024, 1536].map(|at| bytes[at] == 2);
        for at in 100..1600 {
            assert_eq!(bytes[at] == 2, kept[at / 512]);
        }
        outcomes.insert(kept);
    }
    assert_eq!(outcomes.len(), 16);
}

#[test]
fn unsynced_names_may_be_lost_and_renames_are_atomic() {
    let mut outcomes = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let disk = with_file(seed);
        disk.create(p("/new")).unwrap();
        disk.rename(p("/f"), p("/g")).unwrap();
        disk.crash();
        let names = ["/new", "/f", "/g"].map(|name| disk.exists(p(name)).unwrap());
        assert!(names[1] != names[2], "seed {seed}");
        outcomes.insert(names);
    }
    assert_eq!(outcomes.len(), 4);
}

#[test]
fn a_failed_sync_loses_what_a_later_one_does_not_bring_back() {
    let mut lost = 0;
    for seed in 0..50 {
        let disk = with_file(seed);
        let file = disk.open(p("/f"), OpenMode::Write).unwrap();
        file.write_at(0, &[2; 512]).unwrap();
        disk.fail_op(disk.ops(), Fault::Io);
        assert_eq!(file.sync_data().unwrap_err().source.raw_os_error(), Some(5));
        file.sync_data().unwrap();
        assert_eq!(
            content(&disk, "/f").unwrap()[0],
            2,
            "the process sees what it wrote"
        );
        disk.crash();
        lost += usize::from(content(&disk, "/f").unwrap()[0] == 1);
    }
    assert!((10..40).contains(&lost), "{lost}");
}

#[test]
fn the_disk_fills_up_and_has_space_again() {
    let disk = with_file(1);
    disk.set_capacity(Some(2100));
    let file = disk.create(p("/g")).unwrap();
    assert!(file.preallocate(53).unwrap_err().is_no_space());
    assert!(file.write_at(0, &[3; 100]).unwrap_err().is_no_space());
    assert_eq!(file.len().unwrap(), 52);
    assert_eq!(disk.free_space(p("/")).unwrap(), 0);
    disk.unlink(p("/f")).unwrap();
    disk.sync_dir(p("/")).unwrap();
    file.write_at(0, &[3; 100]).unwrap();
}

#[test]
fn after_the_power_went_out_everything_fails_until_it_is_back() {
    let disk = with_file(1);
    let file = disk.open(p("/f"), OpenMode::Write).unwrap();
    let lock = disk.lock(p("/f"), LockKind::Record).unwrap();
    assert!(
        disk.lock(p("/f"), LockKind::Record)
            .err()
            .unwrap()
            .is_locked()
    );
    disk.crash_at(disk.ops() + 1);
    file.write_at(0, &[2]).unwrap();
    file.write_at(1, &[2]).unwrap_err();
    assert!(disk.is_down());
    disk.exists(p("/f")).unwrap_err();
    disk.crash();
    file.len().unwrap_err();
    let again = disk.lock(p("/f"), LockKind::Record).unwrap();
    drop(lock);
    assert!(
        disk.lock(p("/f"), LockKind::Record).is_err(),
        "a lock of before frees nothing"
    );
    drop(again);
}

#[test]
fn equal_seeds_yield_equal_outcomes() {
    let run = |seed| {
        let disk = with_file(seed);
        disk.open(p("/f"), OpenMode::Write)
            .unwrap()
            .write_at(0, &[2; 2048])
            .unwrap();
        disk.crash();
        content(&disk, "/f")
    };
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed));
    }
}
