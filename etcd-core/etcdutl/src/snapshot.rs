//! `snapshot status` and `snapshot restore`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use etcd_replica::{Restore, RestoreError, SnapshotFile, SnapshotFileError};
use etcd_storage::disk::{Disk, RealDisk};

use crate::cli::RestoreArgs;
use crate::error::Error;
use crate::initial_cluster::founders;
use crate::output::{Format, table};
use crate::size::human;

/// Opens a file for reading; it is never written.
pub(crate) fn open(file: &Path) -> Result<SnapshotFile, Error> {
    if !RealDisk.exists(file)? {
        return Err(Error::NoFile(file.to_owned()));
    }
    SnapshotFile::open_file(&RealDisk, file).map_err(unreadable(file))
}

pub(crate) fn unreadable(file: &Path) -> impl FnOnce(SnapshotFileError) -> Error + use<> {
    let path = file.to_owned();
    move |source| Error::File { path, source }
}

fn one<'a>(files: &'a [PathBuf], command: &'static str) -> Result<&'a Path, Error> {
    match files {
        [file] => Ok(file),
        _ => Err(Error::OneFile { command }),
    }
}

/// `snapshot status FILE`.
pub(crate) fn status(files: &[PathBuf], format: Format) -> Result<(), Error> {
    let file = one(files, "snapshot status")?;
    let status = open(file)?.status().map_err(unreadable(file))?;
    let (revision, keys, version) = (status.revision, status.total_key, &status.version);
    match format {
        Format::Simple => println!(
            "{:x}, {revision}, {keys}, {}, {version}",
            status.hash,
            human(status.total_size)
        ),
        Format::Json => println!(
            "{}",
            serde_json::json!({"hash": status.hash, "revision": revision, "totalKey": keys,
                "totalSize": status.total_size, "version": version})
        ),
        Format::Fields => println!(
            "\"Hash\" : {}\n\"Revision\" : {revision}\n\"Keys\" : {keys}\n\"Size\" : {}\n\"Version\" : {version}",
            status.hash, status.total_size
        ),
        Format::Table => print!(
            "{}",
            table(&[
                ("HASH", format!("{:x}", status.hash)),
                ("REVISION", revision.to_string()),
                ("TOTAL KEYS", keys.to_string()),
                ("TOTAL SIZE", human(status.total_size)),
                ("VERSION", version.clone()),
            ])
        ),
    }
    Ok(())
}

/// `snapshot restore FILE`.
pub(crate) fn restore(args: &RestoreArgs) -> Result<(), Error> {
    let file = one(&args.files, "snapshot restore")?;
    if (args.bump_revision > 0) != args.mark_compacted {
        return Err(Error::MarkCompacted);
    }
    let founders = founders(
        &args.name,
        &args.initial_cluster,
        &args.initial_cluster_token,
        &args.initial_advertise_peer_urls,
    )?;
    let data_dir = if args.data_dir.is_empty() {
        format!("{}.etcd", args.name)
    } else {
        args.data_dir.clone()
    };
    let member = Path::new(&data_dir).join("member");
    let wal = if args.wal_dir.is_empty() {
        member.join("wal")
    } else {
        PathBuf::from(&args.wal_dir)
    };
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    if disk.exists(Path::new(&data_dir))? && !disk.list(Path::new(&data_dir))?.is_empty() {
        return Err(Error::DataDir(data_dir));
    }
    if !disk.exists(file)? {
        return Err(Error::NoFile(file.to_owned()));
    }
    let wanted = Restore {
        member_id: founders.own,
        members: founders.members,
        revision: None,
        bump_revision: args.bump_revision,
        skip_hash_check: args.skip_hash_check,
    };
    let done = match etcd_replica::restore(&disk, file, &member, &wal, &wanted) {
        Err(RestoreError::NotEmpty(_)) => return Err(Error::WalDir(args.wal_dir.clone())),
        done => done?,
    };
    let line = serde_json::json!({
        "level": "info",
        "ts": jiff::Timestamp::now().to_string(),
        "msg": "restored snapshot",
        "path": file,
        "wal-dir": wal,
        "data-dir": data_dir,
        "cluster-id": format!("{:x}", done.cluster_id),
        "local-member-id": format!("{:x}", wanted.member_id),
        "revision": done.revision,
        "compact-revision": done.compact_revision,
    });
    eprintln!("{line}");
    if done.auth_enabled {
        let line = serde_json::json!({
            "level": "warn",
            "ts": jiff::Timestamp::now().to_string(),
            "msg": "authentication is enabled in this snapshot: stock etcd serves it, etcd-core does not start on it",
            "data-dir": data_dir,
        });
        eprintln!("{line}");
    }
    Ok(())
}
