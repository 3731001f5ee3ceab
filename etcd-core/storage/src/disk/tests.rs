//! The two disks, held against each other.

use std::path::PathBuf;

use super::*;
use crate::simdisk::SimDisk;

/// Runs a check on a real disk and on a simulated one.
fn on_both(check: impl Fn(&dyn Disk, PathBuf)) {
    let temporary = tempfile::tempdir().unwrap();
    check(&RealDisk, temporary.path().to_path_buf());
    let disk = SimDisk::new(0);
    disk.create_dir_all(Path::new("/root")).unwrap();
    check(&disk, PathBuf::from("/root"));
}

#[test]
fn files_are_written_and_read() {
    on_both(|disk, root| {
        let path = root.join("f");
        let file = disk.create(&path).unwrap();
        assert!(file.is_empty().unwrap());
        file.write_at(3, b"abc").unwrap();
        file.preallocate(8).unwrap();
        file.preallocate(4).unwrap();
        assert_eq!(file.len().unwrap(), 8);
        assert_eq!(file.map().unwrap(), b"\0\0\0abc\0\0"[..]);
        let mut buffer = [9; 4];
        assert_eq!(file.read_at(6, &mut buffer).unwrap(), 2);
        assert_eq!(buffer, [0, 0, 9, 9]);
        file.truncate(4).unwrap();
        file.sync_data().unwrap();
        assert_eq!(file.map().unwrap(), b"\0\0\0a"[..]);
        file.truncate(0).unwrap();
        assert!(file.map().unwrap().is_empty());
        assert_eq!(
            disk.create(&path).err().unwrap().source.kind(),
            std::io::ErrorKind::AlreadyExists
        );
        let open = disk.open(&path, OpenMode::Read).unwrap();
        disk.unlink(&path).unwrap();
        assert_eq!(open.len().unwrap(), 0);
        assert!(
            disk.open(&path, OpenMode::Read)
                .err()
                .unwrap()
                .is_not_found()
        );
        assert!(disk.unlink(&path).unwrap_err().is_not_found());
    });
}

#[test]
fn names_are_made_listed_and_moved() {
    on_both(|disk, root| {
        disk.create_dir_all(&root.join("a/b")).unwrap();
        disk.create_dir_all(&root.join("a/b")).unwrap();
        disk.create(&root.join("a/z"))
            .unwrap()
            .write_at(0, &[1; 10])
            .unwrap();
        disk.create(&root.join("a/y")).unwrap();
        disk.rename(&root.join("a/y"), &root.join("a/z")).unwrap();
        disk.create(&root.join("a/b/f")).unwrap();
        disk.rename(&root.join("a/b"), &root.join("a/c")).unwrap();
        disk.sync_dir(&root.join("a")).unwrap();
        let names = disk.list(&root.join("a")).unwrap();
        let names: Vec<_> = names
            .iter()
            .map(|e| (e.name.to_str().unwrap(), e.is_dir, e.len))
            .collect();
        assert_eq!(names, [("c", true, 0), ("z", false, 0)]);
        assert!(disk.exists(&root.join("a/c/f")).unwrap());
        assert!(!disk.exists(&root.join("a/b")).unwrap());
        disk.remove_dir_all(&root.join("a")).unwrap();
        disk.remove_dir_all(&root.join("a")).unwrap();
        assert!(disk.list(&root.join("a")).unwrap_err().is_not_found());
        assert!(disk.free_space(&root).unwrap() > 0);
    });
}

#[test]
fn locks_exclude_each_other_until_they_are_dropped() {
    on_both(|disk, root| {
        let path = root.join("f");
        disk.create(&path).unwrap();
        for kind in [LockKind::Record, LockKind::Flock] {
            let lock = disk.lock(&path, kind).unwrap();
            let error = disk.lock(&path, kind).err().unwrap();
            assert!(error.is_locked(), "{error}");
            // Reading and closing the file does not release it.
            drop(disk.open(&path, OpenMode::Read).unwrap());
            assert!(disk.lock(&path, kind).is_err());
            drop(lock);
            disk.lock(&path, kind).unwrap();
        }
    });
}
