//! Commands and flags, named as etcd's.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// An administrative command line tool for snapshot files of etcd.
#[derive(Debug, Parser)]
#[command(name = "etcdutl")]
pub(crate) struct Cli {
    /// Output format: fields, json, simple or table.
    #[arg(short, long, global = true, default_value = "simple")]
    pub(crate) write_out: String,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Looks at snapshots and restores them.
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Prints the hash of the history in a file, as `etcdctl endpoint hashkv` of the
    /// member it was taken from.
    Hashkv {
        /// The file.
        file: PathBuf,
        /// Last revision that counts; 0 for all.
        #[arg(long, default_value_t = 0)]
        rev: i64,
    },
    /// Prints the version.
    Version,
}

/// What to do with a snapshot.
#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Prints hash, revision, keys, size and storage version of a file.
    Status {
        /// The file.
        files: Vec<PathBuf>,
    },
    /// Makes a member's data directory from a file.
    Restore(RestoreArgs),
}

/// Flags of `snapshot restore`.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The file.
    pub(crate) files: Vec<PathBuf>,
    /// Data directory to make; `<name>.etcd` if left out.
    #[arg(long, default_value = "")]
    pub(crate) data_dir: String,
    /// Directory of the log; in the data directory if left out.
    #[arg(long, default_value = "")]
    pub(crate) wal_dir: String,
    /// Name of this member.
    #[arg(long, default_value = "default")]
    pub(crate) name: String,
    /// Members of the new cluster.
    #[arg(long, default_value = "default=http://localhost:2380")]
    pub(crate) initial_cluster: String,
    /// Token of the new cluster.
    #[arg(long, default_value = "etcd-cluster")]
    pub(crate) initial_cluster_token: String,
    /// Peer URLs of this member.
    #[arg(long, default_value = "http://localhost:2380")]
    pub(crate) initial_advertise_peer_urls: String,
    /// Do not verify the digest; for a file copied from a data directory.
    #[arg(long)]
    pub(crate) skip_hash_check: bool,
    /// How much to raise the revision.
    #[arg(long, default_value_t = 0)]
    pub(crate) bump_revision: u64,
    /// Mark all revisions before as compacted; required with --bump-revision.
    #[arg(long)]
    pub(crate) mark_compacted: bool,
    /// Accepted for etcd's sake: nothing is mapped ahead.
    #[arg(long, default_value_t = 10_737_418_240)]
    pub(crate) initial_memory_map_size: u64,
}
