//! Everything of etcd-core that meets a disk.
//!
//! ```text
//!  replica ──> wal::Wal ───────┐        (log entries, votes, snapshot marks)
//!          ──> segment::* ─────┤
//!          ──> rows ───────────┼──> disk::Disk ──┬── disk::RealDisk   (std::fs, rustix, mmap)
//!          ──> manifest ───────┤                 └── simdisk::SimDisk (seeded faults, in memory)
//!          ──> bolt ───────────┘
//! ```
//!
//! A start reads upwards: [`manifest`] names the [`segment`]s and the [`rows`] file of
//! the newest checkpoint, and [`wal`] replays what came after it. A checkpoint writes
//! downwards in the same order, each step synced before the next one may refer to it.
//!
//! Nothing here reads a clock, starts a thread or draws a random number; every file
//! operation goes through [`disk::Disk`], so that a simulation can fail any of them.

pub mod bolt;
pub mod dir;
pub mod disk;
pub mod manifest;
pub mod rows;
pub mod segment;
pub mod simdisk;
pub mod wal;
